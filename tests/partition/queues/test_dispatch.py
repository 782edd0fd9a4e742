"""Turns of lanes, against a sorted list of each."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from raftmq.partition.queues import dispatch
from raftmq.partition.queues.dispatch import Dispatch

LANES = (3, 5, 9)
steps = st.one_of(
    st.tuples(st.just("new"), st.sampled_from(LANES)),
    st.tuples(st.just("again"), st.integers(0, 200)),
    st.tuples(st.just("gone"), st.integers(0, 200)),
    st.tuples(st.just("take"), st.integers(1, 9)),
)


@given(st.lists(steps, max_size=200))
def test_lanes_have_turns_and_each_its_lowest_first(steps: list[tuple[str, int]]) -> None:
    ready, lane_of, away = Dispatch(is_fair=True), list[int](), set[int]()
    waiting: dict[int, set[int]] = {lane: set() for lane in LANES}
    cursor = 0
    for what, number in steps:
        if what == "new":
            waiting[number].add(len(lane_of))
            ready.add(len(lane_of), 0, number)
            lane_of.append(number)
        elif what == "again" and number in away:
            away.remove(number)
            waiting[lane_of[number]].add(number)
            ready.add(number, 0, lane_of[number])
        elif what == "gone" and number < len(lane_of) and number not in away:
            away.add(number)
            waiting[lane_of[number]].discard(number)
            ready.ready.discard(number)
        elif what == "take":
            expected: list[int] = []
            while len(expected) < number and any(waiting.values()):
                having = [lane for lane in LANES if waiting[lane]]
                cursor = next((lane for lane in having if lane > cursor), having[0])
                expected.append(min(waiting[cursor]))
                waiting[cursor].remove(expected[-1])
            away.update(expected)
            assert list(ready.take(number)) == expected


def test_places_of_what_was_taken_are_given_back() -> None:
    lane = dispatch._Lane()
    most = 3 * dispatch._TAKEN_MAX
    for offset in range(most):
        lane.add(offset)
    assert [lane.take() for _ in range(most)] == list(range(most))
    assert lane.take() is None
    assert len(lane._new) <= dispatch._TAKEN_MAX + 1
