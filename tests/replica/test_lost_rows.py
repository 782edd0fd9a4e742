"""A disk that lost writes may have lost the row of a replica, and with it the memory of a vote."""

from raftmq.ids import Generation, GroupId, NodeId, ReplicaId, StoreId, Term
from raftmq.ports import LostTail
from raftmq.raft.types import Membership
from raftmq.replica.rows import fresh_row

FIRST = Membership(frozenset(ReplicaId(NodeId(n), StoreId(n)) for n in (1, 2, 3)))


def test_a_replica_whose_row_may_have_been_lost_is_created_suspect_above_every_term_of_then() -> None:
    row = fresh_row(GroupId(4), Generation(9), FIRST, LostTail(GroupId(4), Term(17)))
    assert row.suspect
    assert row.hard_state.term == 17
    assert row.hard_state.vote is None


def test_a_replica_of_a_later_group_or_on_a_sound_disk_is_not_suspect() -> None:
    for lost in (None, LostTail(GroupId(3), Term(17))):
        row = fresh_row(GroupId(4), Generation(9), FIRST, lost)
        assert not row.suspect
        assert row.hard_state.term == 0
