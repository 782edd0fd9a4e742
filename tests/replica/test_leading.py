"""Notices of who leads: newer ones win, whatever comes last."""

from __future__ import annotations

from raftmq.ids import GroupId, NodeId, Term, Tick
from raftmq.ports import LeaderNotice
from raftmq.replica.barriers import Barriers
from raftmq.replica.heartbeats import NodeHeartbeats
from raftmq.replica.leading import Events, Leading

GROUP = GroupId(7)


class Stopped:
    def tick(self) -> Tick:
        return Tick(0)

    def wall_ms(self) -> int:
        return 0


def notice(term: int, leader: int, *in_sync: int) -> LeaderNotice:
    return LeaderNotice(GROUP, Term(term), NodeId(leader), tuple(NodeId(node) for node in in_sync))


def test_an_older_notice_changes_nothing_and_one_without_an_in_sync_set_takes_none_away() -> None:
    leading = Leading(NodeId(1), Stopped(), NodeHeartbeats(lambda group: None), Barriers(), Events(), 100)
    leading.learn(notice(3, 2, 1, 2))
    leading.learn(notice(2, 3, 1, 3))
    leading.learn(notice(3, 2))
    assert leading.known[GROUP] == notice(3, 2, 1, 2)
    leading.learn(notice(3, 2, 2))
    assert leading.known[GROUP] == notice(3, 2, 2)
    leading.learn(notice(4, 3))
    assert leading.known[GROUP] == notice(4, 3)
