"""Joining, moving, committing and leaving, entry by entry."""

from __future__ import annotations

import pytest

from raftmq.errors import (
    FencedMember,
    GroupNotEmpty,
    PreconditionFailed,
    StaleMember,
    UnknownGroup,
    UnknownMember,
)
from raftmq.groups import commands, group
from raftmq.groups.commands import (
    Commit,
    Confirm,
    DeleteGroup,
    DeleteOffsets,
    Expire,
    Leave,
    SetOffsets,
    TopicsChanged,
    Trim,
)
from raftmq.groups.machine import GroupsMachine
from raftmq.groups.types import Position, TopicFacts
from raftmq.ids import LogIndex
from raftmq.records.poison import CorruptState, PoisonEntry
from raftmq.records.state_kinds import StateKind
from tests.coordinator.fakes import entry
from tests.groups.build import GROUP, ORDERS, Log, joining, key


def commit(member_id: str, epoch: int, partition: int, offset: int) -> Commit:
    return Commit(member_id, epoch, ((key(partition), Position(offset)),))


def test_the_first_member_gets_everything_at_once() -> None:
    log = Log()
    log.do(joining("a"))
    assert log.assigned("a") == {0, 1, 2, 3}
    assert log.group.epoch == 1


def test_a_partition_moves_by_stop_confirmed_start() -> None:
    log = Log()
    log.do(joining("a"))
    log.do(joining("b"))
    assert (log.assigned("a"), log.revoking("a"), log.assigned("b")) == ({0, 1}, {2, 3}, set())
    log.do(Confirm("a", 2, (key(2),)))
    assert (log.revoking("a"), log.assigned("b")) == ({3}, {2})
    log.do(Confirm("a", 2, (key(3),)))
    assert (log.assigned("a"), log.assigned("b")) == ({0, 1}, {2, 3})
    assert log.group.epoch == 2, "whoever is not concerned notices nothing"


def test_a_confirmation_of_an_earlier_time_counts_for_nothing() -> None:
    """Between the two it was told to go on with the partition, and may do so."""
    log = Log()
    log.do(joining("a"))
    log.do(joining("b"))
    assert 3 in log.revoking("a")
    log.do(Leave("b"))
    assert log.assigned("a") == {0, 1, 2, 3}
    log.do(joining("c"))
    log.do(Confirm("a", 2, (key(2), key(3))))
    assert (log.revoking("a"), log.assigned("c")) == ({2, 3}, set())
    log.do(Confirm("a", 4, (key(2), key(3))))
    assert log.assigned("c") == {2, 3}


def test_a_dead_member_confirms_nothing_and_loses_everything() -> None:
    log = Log()
    log.do(joining("a"))
    log.do(joining("b"))
    log.do(Expire("a", "not heard"))
    assert log.assigned("b") == {0, 1, 2, 3}
    assert isinstance(log.refused(commit("a", 2, 0, 5)), UnknownMember)
    assert isinstance(log.refused(Confirm("a", 2, (key(0),))), UnknownMember)


def test_a_commit_counts_for_the_owner_only_and_since_it_became_one() -> None:
    log = Log()
    log.do(joining("a"))
    log.do(joining("b"))
    assert log.do(commit("a", 1, 2, 10)) == [None], "what it is to give up it may still commit"
    log.do(Confirm("a", 2, (key(2),)))
    (late,) = log.do(commit("a", 2, 2, 11))
    (early,) = log.do(commit("b", 1, 2, 11))
    assert isinstance(late, StaleMember)
    assert isinstance(early, StaleMember)
    assert log.do(commit("b", 2, 2, 11)) == [None]
    assert log.group.offsets[key(2)].position.offset == 11
    assert isinstance(log.refused(commit("b", 3, 2, 12)), StaleMember), "no epoch of the group yet"


def test_commits_are_decided_offset_by_offset_and_only_grow() -> None:
    log = Log()
    log.do(joining("a"))
    log.do(joining("b"))
    both = Commit("a", 2, ((key(0), Position(5, "here", 3)), (key(9), Position(5))))
    first, second = log.do(both)
    assert first is None
    assert isinstance(second, StaleMember)
    (back,) = log.do(commit("a", 2, 0, 4))
    assert isinstance(back, PreconditionFailed)
    assert back.metadata == {"committed_offset": "5"}
    assert log.do(commit("a", 2, 0, 5)) == [None], "once more is no harm"
    assert log.group.offsets[key(0)].position == Position(5)


def test_only_a_group_without_members_takes_commits_from_outside() -> None:
    log = Log()
    log.do(commit("", 0, 0, 7))
    log.do(joining("a"))
    assert isinstance(log.refused(commit("", 0, 0, 8)), GroupNotEmpty)
    for change in (SetOffsets(()), DeleteOffsets((key(0),)), DeleteGroup()):
        assert isinstance(log.refused(change), GroupNotEmpty)
    log.do(Leave("a"))
    log.do(SetOffsets(((key(0), Position(3)),)))
    assert log.group.offsets[key(0)].position.offset == 3, "a reset goes back"
    log.do(DeleteOffsets((key(0),)))
    assert GROUP not in log.machine.groups, "nothing is left of it"
    assert isinstance(log.refused(DeleteGroup()), UnknownGroup)


def test_a_successor_under_an_instance_id_takes_over_at_once() -> None:
    log = Log()
    log.do(joining("a1", instance_id="a"))
    log.do(joining("b"))
    log.do(Confirm("a1", 2, (key(2), key(3))))
    log.do(joining("a2", instance_id="a"))
    assert (log.assigned("a2"), log.assigned("b")) == ({0, 1}, {2, 3})
    assert isinstance(log.refused(commit("a1", 2, 0, 1)), UnknownMember)
    with pytest.raises(FencedMember):
        log.group.member("a1", "a")
    (old,) = log.do(commit("a2", 2, 0, 1))
    assert isinstance(old, StaleMember), "what its predecessor was told counts no more"
    assert log.do(commit("a2", 3, 0, 1)) == [None]


def test_joining_twice_changes_nothing() -> None:
    log = Log()
    log.do(joining("a"))
    log.do(joining("a"))
    assert log.group.epoch == 1


def test_topics_come_and_go() -> None:
    log = Log()
    wish = joining("a", ORDERS, TopicFacts("bills", 8, 2))
    log.do(commands.Join(wish.member, None, (ORDERS,)))
    assert len(log.group.assigned("a")) == 4, "a topic that does not exist yet is waited for"
    log.do(TopicsChanged(wish.facts, ()))
    assert len(log.group.assigned("a")) == 6
    log.do(commit("a", 2, 1, 9))
    log.do(TopicsChanged(wish.facts[1:], (ORDERS.topic_id,)))
    assert log.group.assigned("a") == (key(0, 8), key(1, 8))
    assert log.group.offsets == {}
    again = TopicFacts("orders", 9, 1)
    log.do(TopicsChanged((again, wish.facts[1]), ()))
    assert log.group.assigned("a") == (key(0, 8), key(1, 8), key(0, 9)), "another topic of the same name"


def test_a_topic_may_go_before_a_member_that_wants_it_no_more_has_given_it_up() -> None:
    log = Log()
    bills = TopicFacts("bills", 8, 1)
    log.do(joining("a", ORDERS, bills))
    log.do(joining("a", ORDERS))
    assert log.group.revoking("a") == (key(0, bills.topic_id),)
    late = Confirm("a", log.group.epoch, (key(0, bills.topic_id),))
    assert log.apply(TopicsChanged((ORDERS,), (bills.topic_id,)), late) == [None, None]
    assert log.group.revoking("a") == ()
    assert log.assigned("a") == {0, 1, 2, 3}


def test_partitions_that_a_repeated_join_tells_of_first_are_read() -> None:
    """Its sender had no answer to the first one, and the topic has grown between."""
    log = Log()
    log.do(joining("a"))
    log.do(joining("b"))
    grown = TopicFacts(ORDERS.name, ORDERS.topic_id, 6)
    log.do(joining("a", grown))
    log.do(TopicsChanged((grown,), ()))
    assert set(log.group.target) == {key(number) for number in range(6)}


def test_a_member_that_reads_another_topic_gives_the_old_one_up_first() -> None:
    log = Log()
    log.do(joining("a"))
    log.do(joining("a", TopicFacts("bills", 8, 1)))
    assert (log.group.assigned("a"), log.revoking("a")) == ((key(0, 8),), {0, 1, 2, 3})
    log.do(Confirm("a", 2, tuple(key(n) for n in range(4))))
    assert log.revoking("a") == set()


def test_limits_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "MEMBERS_MAX", 1)
    monkeypatch.setattr(group, "OFFSETS_MAX", 1)
    log = Log()
    log.do(joining("a"))
    assert isinstance(log.refused(joining("b")), PreconditionFailed)
    log.do(commit("a", 1, 0, 1))
    (refused,) = log.do(commit("a", 1, 1, 1))
    assert isinstance(refused, PreconditionFailed)


def test_what_is_too_much_to_hold_is_not_proposed(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the coordinator alone: whatever is in the log is applied."""
    monkeypatch.setattr(group, "SUBSCRIPTIONS_MAX", 3)
    monkeypatch.setattr(group, "METADATA_BYTES_MAX", 10)
    bills = TopicFacts("bills", 8, 1)
    log = Log()
    log.do(joining("a", ORDERS, bills))
    expect = log.machine.expect_possible
    expect(GROUP, joining("b"))
    expect(GROUP, joining("a"))
    with pytest.raises(PreconditionFailed) as refused:
        expect(GROUP, joining("b", ORDERS, bills))
    assert refused.value.field == "topics"
    log.do(joining("b", ORDERS, bills))

    def noted(size: int, *partitions: int) -> Commit:
        return Commit("a", 2, tuple((key(number), Position(1, "m" * size)) for number in partitions))

    log.do(noted(6, 0))
    for fits in (noted(4, 1), noted(10, 0), noted(0, 1, 2)):
        expect(GROUP, fits)
    with pytest.raises(PreconditionFailed) as refused:
        expect(GROUP, noted(5, 1))
    assert refused.value.field == "offsets"
    log.do(Leave("a"))
    log.do(Leave("b"))
    expect(GROUP, SetOffsets(noted(10, 0).offsets))
    with pytest.raises(PreconditionFailed):
        expect(GROUP, SetOffsets(noted(5, 1).offsets))


def test_rows_bring_back_the_very_same_state() -> None:
    log = Log()
    log.do(joining("a", instance_id="i"))
    log.do(joining("b"))
    log.do(commit("a", 2, 2, 10))
    log.do(commit("", 0, 0, 7), group="other")
    stored = {(kind, at): value for kind, at, value in log.machine.take_rows() if value is not None}
    log.do(Confirm("a", 2, (key(2),)))
    log.do(DeleteGroup(), group="other")
    for kind, at, value in log.machine.take_rows():
        if value is None:
            del stored[kind, at]
        else:
            stored[kind, at] = value
    rows = [(kind, at, value) for (kind, at), value in sorted(stored.items())]
    assert rows == log.machine.all_rows()
    again = GroupsMachine()
    again.restore(rows)
    assert again.all_rows() == rows
    assert again.take_rows() == []
    other = Log(again)
    other.tick = log.tick
    for one in (log, other):
        one.do(Confirm("a", 2, (key(3),)))
    assert other.machine.all_rows() == log.machine.all_rows()


@pytest.mark.parametrize(
    "row",
    [
        (StateKind.PRODUCER, b"", b""),
        (StateKind.CONSUMER_GROUP, b"g", b"\xff"),
        (StateKind.COMMITTED_OFFSET, b"\0\1g" + bytes(12), b""),
        (StateKind.COMMITTED_OFFSET, b"\0", b""),
    ],
)
def test_rows_that_no_machine_wrote_are_refused(row: tuple[StateKind, bytes, bytes]) -> None:
    applied = Log()
    applied.do(joining("a"))
    with pytest.raises(CorruptState):
        GroupsMachine().restore([applied.machine.all_rows()[0], row])


def test_all_of_the_log_may_be_trimmed() -> None:
    log = Log()
    log.do(joining("a"))
    machine = log.machine
    machine.apply(entry(machine, commands.encode(Trim(LogIndex(2))), tick=log.tick))
    assert machine.raft_start == 2
    machine.apply(entry(machine, commands.encode(Trim(LogIndex(1))), tick=log.tick))
    assert machine.raft_start == 2, "never back"


@pytest.mark.parametrize("body", [b"\xff", b"", b"\x1a\x02\x0a\x00", b"\xa0\x06\x01"])
def test_what_cannot_be_understood_is_poison_and_changes_nothing(body: bytes) -> None:
    log = Log()
    log.do(joining("a"))
    before = log.machine.all_rows()
    with pytest.raises(PoisonEntry):
        log.machine.apply(entry(log.machine, body, tick=log.tick))
    with pytest.raises(PoisonEntry, match="version 3"):
        log.machine.apply(entry(log.machine, commands.encode(Trim(LogIndex(1))), tick=log.tick, version=3))
    assert log.machine.all_rows() == before
