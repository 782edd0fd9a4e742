"""Majorities, simple and joint, against the definition; and: one configuration's quorums meet the next one's."""

from __future__ import annotations

from itertools import combinations, pairwise

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from raftmq.ids import LogIndex, ReplicaId
from raftmq.raft.errors import MembershipRefused
from raftmq.raft.membership import MembershipLog, first_step, leave
from raftmq.raft.quorum import VoteResult, halves, majority, quorum_value, vote_result
from raftmq.raft.types import Membership

from .harness import members, replica

NUMBERS = st.integers(1, 6)
VOTERS = st.frozensets(NUMBERS, min_size=1, max_size=5)


@st.composite
def configurations(draw: st.DrawFn, joint: bool = True) -> Membership:
    voters = draw(VOTERS)
    outgoing = draw(st.one_of(st.just(frozenset[int]()), VOTERS)) if joint else frozenset[int]()
    learners = draw(st.frozensets(NUMBERS, max_size=2)) - voters - outgoing
    return members(*voters, outgoing=outgoing, learners=learners)


def is_quorum(membership: Membership, who: frozenset[ReplicaId]) -> bool:
    return all(len(half & who) >= majority(half) for half in halves(membership))


def quorums(membership: Membership) -> list[frozenset[ReplicaId]]:
    everyone = sorted(membership.all_voters)
    subsets = (frozenset(s) for n in range(len(everyone) + 1) for s in combinations(everyone, n))
    return [subset for subset in subsets if is_quorum(membership, subset)]


@settings(max_examples=150, deadline=None)
@given(configurations(), st.lists(st.integers(0, 9), min_size=6, max_size=6))
def test_the_quorum_value_is_the_largest_that_a_quorum_has_reached(membership: Membership, values: list[int]) -> None:
    def value_of(member: ReplicaId) -> int:
        return values[member.node - 1]

    def reached(value: int) -> bool:
        return is_quorum(membership, frozenset(m for m in membership.all_voters if value_of(m) >= value))

    assert quorum_value(membership, value_of) == max(value for value in range(10) if reached(value))


@settings(max_examples=150, deadline=None)
@given(configurations(), st.dictionaries(NUMBERS, st.booleans()))
def test_a_vote_is_won_or_lost_as_soon_as_it_cannot_turn_out_otherwise(
    membership: Membership, votes: dict[int, bool]
) -> None:
    cast = {replica(number): granted for number, granted in votes.items()}
    now = frozenset(member for member, granted in cast.items() if granted)
    best = now | frozenset(member for member in membership.all_voters if member not in cast)
    expected = VoteResult.PENDING
    if is_quorum(membership, now):
        expected = VoteResult.WON
    elif not is_quorum(membership, best):
        expected = VoteResult.LOST
    assert vote_result(membership, cast) is expected


def test_nobody_decides_where_nobody_votes() -> None:
    assert quorum_value(members(), lambda member: 9) is None
    assert vote_result(members(), {replica(1): True}) is VoteResult.LOST


@settings(max_examples=150, deadline=None)
@given(configurations(joint=False), configurations(joint=False))
def test_item_35_the_quorums_of_consecutive_configurations_meet(current: Membership, target: Membership) -> None:
    try:
        step = first_step(current, target)
    except MembershipRefused:
        assume(False)
    path = [current, step, leave(step)] if step.is_joint else [current, step]
    assert path[-1] == target
    for before, after in pairwise(path):
        theirs = quorums(after)
        assert all(one & other for one in quorums(before) for other in theirs)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["append", "truncate", "drop"]), st.integers(1, 5)), max_size=30))
def test_the_membership_log_says_what_a_list_of_entries_says(steps: list[tuple[str, int]]) -> None:
    log = MembershipLog([(LogIndex(0), members(1))])
    model = {0: members(1)}
    floor = 0
    for verb, number in steps:
        last = max(model)
        if verb == "append":
            log.append(LogIndex(last + number), members(number, 6))
            model[last + number] = members(number, 6)
        elif verb == "truncate":
            at = max(last - number, floor) + 1
            assert log.truncate(LogIndex(at)) == any(index >= at for index in model)
            model = {index: value for index, value in model.items() if index < at}
        else:
            floor = min(floor + number, last)
            log.drop_below(LogIndex(floor))
            keep = max(index for index in model if index <= floor)
            model = {index: value for index, value in model.items() if index >= keep}
        assert (log.current_index, log.current) == max(model.items(), key=lambda pair: pair[0])
        for index in range(max(model) + 2):
            in_force = [value for at, value in sorted(model.items()) if at <= index]
            assert log.at(LogIndex(index)) == (in_force[-1] if in_force else None)
