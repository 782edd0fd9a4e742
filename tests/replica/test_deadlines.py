"""When groups are woken for the sake of time."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import cast

from raftmq.ids import GroupId, ReplicaId, Term, Tick
from raftmq.replica.deadlines import Deadlines
from raftmq.replica.heartbeats import NodeHeartbeats
from raftmq.replica.leading import Hosted
from tests.replica.world import Time


@dataclass
class FakeHosted:
    group: SimpleNamespace
    wanted: int | None
    scheduled: int | None = None

    def deadline(self) -> int | None:
        return self.wanted

    def tick(self, now: Tick) -> bool:
        return True

    def leans_on(self, since: Tick) -> list[ReplicaId]:
        return []


def nobody(_: GroupId) -> Term | None:
    return None


def test_nobody_is_woken_for_a_deadline_that_was_overtaken() -> None:
    groups = {number: FakeHosted(SimpleNamespace(id=number), None) for number in (1, 2)}
    touched: list[int] = []
    hosted = cast("dict[GroupId, Hosted]", groups)
    deadlines = Deadlines(hosted, NodeHeartbeats(nobody), Time(), touched.append, patience=800)

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
    deadlines.tick(Tick(29))
    assert not touched
    deadlines.tick(Tick(30))
    assert touched == [2]
    assert deadlines.nearest(Tick(1000)) == 1000
    moves(2, 40)
    del groups[2]
    assert deadlines.nearest(Tick(1000)) == 1000
