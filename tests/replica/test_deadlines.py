"""When groups are woken for the sake of time."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import cast

from raftmq.ids import GroupId, Tick
from raftmq.replica.deadlines import Deadlines
from raftmq.replica.leading import Hosted


@dataclass
class FakeHosted:
    group: SimpleNamespace
    wanted: int | None
    scheduled: int | None = None

    def deadline(self) -> int | None:
        return self.wanted


def test_nobody_is_woken_for_a_deadline_that_was_overtaken() -> None:
    groups = {number: FakeHosted(SimpleNamespace(id=number), None) for number in (1, 2)}
    deadlines = Deadlines(cast("dict[GroupId, Hosted]", groups))

    def moves(number: int, to: int | None) -> None:
        groups[number].wanted = to
        deadlines.reschedule(cast(Hosted, groups[number]))

    for at in range(10, 20):
        moves(1, at)
    moves(2, 30)
    assert deadlines.nearest(Tick(1000)) == 19
    moves(1, None)
    assert deadlines.nearest(Tick(1000)) == 30
    assert deadlines.nearest(Tick(25)) == 25
    assert not deadlines.due(Tick(29))
    assert [hosted.group.id for hosted in deadlines.due(Tick(30))] == [2]
    assert deadlines.nearest(Tick(1000)) == 1000
    moves(2, 40)
    del groups[2]
    assert deadlines.nearest(Tick(1000)) == 1000
