"""What every assignor promises, and what sets them apart."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftmq.groups.assignors import Assignment, assign
from raftmq.groups.types import Assignor, Member, TopicFacts, TopicPartition

NAMES = ("apples", "bananas", "cherries")
RACKS = ("", "a", "b")


def member(name: str, *topics: str, rack: str = "") -> Member:
    return Member(name, topics or ("apples",), 30_000, 60_000, rack=rack)


def topic(name: str, partitions: int, *racks: str) -> TopicFacts:
    """`racks`: of all partitions."""
    return TopicFacts(name, NAMES.index(name) + 1, partitions, (frozenset(racks),) * partitions if racks else ())


def moved(before: Assignment, after: Assignment) -> int:
    return sum(after.get(key) != owner for key, owner in before.items())


def loads(assignment: Assignment) -> Counter[str]:
    return Counter(assignment.values())


groups = st.lists(
    st.tuples(
        st.sets(st.sampled_from(NAMES), min_size=1).map(lambda names: tuple(sorted(names))), st.sampled_from(RACKS)
    ),
    max_size=6,
).map(lambda wishes: [member(f"m{n}", *names, rack=rack) for n, (names, rack) in enumerate(wishes)])
facts = st.tuples(*(st.integers(0, 7) for _ in NAMES)).flatmap(
    lambda counts: st.tuples(
        *(
            st.lists(st.frozensets(st.sampled_from(RACKS[1:])), min_size=count, max_size=count).map(tuple)
            for count in counts
        )
    )
)


def topics_of(racks: tuple[tuple[frozenset[str], ...], ...]) -> list[TopicFacts]:
    return [TopicFacts(name, number + 1, len(racks[number]), racks[number]) for number, name in enumerate(NAMES)]


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(Assignor), groups, groups, facts)
def test_every_partition_that_somebody_reads_goes_to_a_reader_and_nobody_has_too_many(
    assignor: Assignor, first: list[Member], then: list[Member], racks: tuple[tuple[frozenset[str], ...], ...]
) -> None:
    topics = topics_of(racks)
    before = assign(assignor, first, topics, {})
    after = assign(assignor, then, topics, before)
    by_name = {one.name: one for one in topics}
    names = {one.topic_id: one.name for one in topics}
    read = {name for one in then for name in one.topics}
    assert after.keys() == {key for name in read for key in by_name[name].every()}
    readers = {one.member_id: one for one in then}
    load = loads(after)
    for key, owner in after.items():
        assert names[key.topic_id] in readers[owner].topics
        for other in then:
            if names[key.topic_id] in other.topics:
                assert load[owner] <= load[other.member_id] + 1, f"{key} could go to {other.member_id}: {after}"


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 40), st.integers(1, 8))
def test_a_newcomer_moves_no_more_than_its_share(partitions: int, members: int) -> None:
    topics = [topic("apples", partitions)]
    before = assign(Assignor.STICKY, [member(f"m{n}") for n in range(members)], topics, {})
    after = assign(Assignor.STICKY, [member(f"m{n}") for n in range(members + 1)], topics, before)
    assert moved(before, after) == partitions // (members + 1)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 40), st.integers(2, 8), st.data())
def test_only_what_a_member_had_moves_when_it_goes(partitions: int, members: int, data: st.DataObject) -> None:
    topics = [topic("apples", partitions)]
    crowd = [member(f"m{n}") for n in range(members)]
    before = assign(Assignor.STICKY, crowd, topics, {})
    gone = data.draw(st.sampled_from(crowd))
    after = assign(Assignor.STICKY, [one for one in crowd if one is not gone], topics, before)
    assert moved(before, after) == loads(before)[gone.member_id]


@pytest.mark.parametrize("assignor", list(Assignor))
def test_nothing_moves_when_nothing_changes(assignor: Assignor) -> None:
    topics = [topic("apples", 7, "a"), topic("bananas", 4, "b")]
    crowd = [member("x", "apples"), member("y", "apples", "bananas", rack="a"), member("z", "bananas", rack="b")]
    before = assign(assignor, crowd, topics, {})
    assert assign(assignor, crowd, topics, before) == before


def test_the_uniform_assignor_remembers_nothing() -> None:
    topics = [topic("apples", 6)]
    crowd = [member("x"), member("y"), member("z")]
    once = assign(Assignor.UNIFORM, crowd, topics, {})
    assert assign(Assignor.UNIFORM, crowd, topics, assign(Assignor.STICKY, crowd[:1], topics, {})) == once


def test_what_moves_anyway_goes_to_a_member_near_it() -> None:
    racks = (frozenset("a"), frozenset("b")) * 3
    topics = [TopicFacts("apples", 1, 6, racks)]
    dealt = assign(Assignor.STICKY, [member("x", rack="a"), member("y", rack="b")], topics, {})
    assert dealt == {TopicPartition(1, n): "xy"[n % 2] for n in range(6)}


def test_only_the_rack_aware_assignor_moves_a_partition_to_be_near() -> None:
    racks = (frozenset("a"), frozenset("b")) * 3
    topics = [TopicFacts("apples", 1, 6, racks)]
    crowd = [member("x", rack="a"), member("y", rack="b")]
    far = {TopicPartition(1, n): "yx"[n % 2] for n in range(6)}
    assert assign(Assignor.STICKY, crowd, topics, far) == far
    assert assign(Assignor.RACK_AWARE, crowd, topics, far) == {TopicPartition(1, n): "xy"[n % 2] for n in range(6)}
