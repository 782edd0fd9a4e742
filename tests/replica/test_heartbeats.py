"""Liveness between nodes: led sets, versions, disputes."""

from raftmq.ids import BootCount, GroupId, NodeId, ReplicaId, StoreId, Term, Tick
from raftmq.ports import NodeHeartbeat, PeerInfo
from raftmq.replica.heartbeats import NEVER, NodeHeartbeats

G, H = GroupId(7), GroupId(8)


class Node:
    """One end, with the terms of its replicas."""

    def __init__(self, number: int, boot: int = 1) -> None:
        self.terms: dict[GroupId, Term] = {}
        self.info = PeerInfo(NodeId(number), StoreId(number * 11), BootCount(boot))
        self.beats = NodeHeartbeats(self.terms.get)
        self.beats.set_peers([NodeId(n) for n in (1, 2) if n != number])

    @property
    def replica(self) -> ReplicaId:
        return ReplicaId(self.info.node, self.info.store)


def exchange(leader: Node, follower: Node, now: int) -> tuple[NodeHeartbeat, list[tuple[GroupId, Term]]]:
    """One heartbeat and its answer. Returns the heartbeat, and what the leader learns it no longer leads."""
    beat = leader.beats.beat(follower.info.node)
    follower.beats.heard(leader.info, Tick(now))
    ack, _ = follower.beats.on_heartbeat(leader.info, beat)
    leader.beats.heard(follower.info, Tick(now))
    return beat, leader.beats.on_ack(follower.info, ack, Tick(now))


def pair() -> tuple[Node, Node]:
    leader, follower = Node(1), Node(2)
    for node in (leader, follower):
        node.terms[G] = Term(4)
    leader.beats.lead(G, Term(4), {NodeId(2)})
    return leader, follower


def test_the_list_travels_only_until_it_is_known() -> None:
    leader, follower = pair()
    first, _ = exchange(leader, follower, 10)
    second, _ = exchange(leader, follower, 20)
    assert first.led is not None
    assert first.led.terms == {G: 4}
    assert second.led is None
    leader.beats.lead(H, Term(2), {NodeId(2)})
    third, _ = exchange(leader, follower, 30)
    assert third.led is not None
    assert third.led.terms == {G: 4, H: 2}


def test_contacts_are_as_fresh_as_the_node_and_only_for_the_term_that_is_led() -> None:
    leader, follower = pair()
    assert follower.beats.leader_contact(G, Term(4), leader.replica) == NEVER
    exchange(leader, follower, 10)
    exchange(leader, follower, 25)
    assert follower.beats.leader_contact(G, Term(4), leader.replica) == 25
    assert follower.beats.leader_contact(G, Term(5), leader.replica) == NEVER
    assert leader.beats.follower_contact(G, Term(4), follower.replica) == 25
    assert leader.beats.follower_contact(H, Term(4), follower.replica) == NEVER


def test_an_acknowledgement_from_before_the_group_was_led_does_not_count() -> None:
    leader, follower = pair()
    exchange(leader, follower, 10)
    leader.beats.lead(H, Term(2), {NodeId(2)})
    assert leader.beats.follower_contact(H, Term(2), follower.replica) == NEVER
    follower.terms[H] = Term(2)
    exchange(leader, follower, 20)
    assert leader.beats.follower_contact(H, Term(2), follower.replica) == 20


def test_a_follower_that_went_on_to_a_higher_term_disputes_and_the_leader_is_told() -> None:
    leader, follower = pair()
    exchange(leader, follower, 10)
    follower.terms[G] = Term(6)
    follower.beats.term_changed(G)
    _, over = exchange(leader, follower, 20)
    assert over == [(G, Term(6))]
    assert leader.beats.follower_contact(G, Term(4), follower.replica) == NEVER


def test_a_node_without_the_replica_does_not_keep_a_leader_alive() -> None:
    leader, follower = pair()
    del follower.terms[G]
    _, over = exchange(leader, follower, 10)
    assert over == []
    assert leader.beats.follower_contact(G, Term(4), follower.replica) == NEVER


def test_what_is_no_longer_led_leaves_the_set() -> None:
    leader, follower = pair()
    exchange(leader, follower, 10)
    leader.beats.unlead(G)
    exchange(leader, follower, 20)
    assert follower.beats.leader_contact(G, Term(4), leader.replica) == NEVER


def test_a_restarted_node_starts_from_nothing_and_a_late_frame_of_the_old_one_is_known_as_such() -> None:
    leader, follower = pair()
    exchange(leader, follower, 10)
    reborn = Node(1, boot=2)
    assert follower.beats.heard(reborn.info, Tick(20))
    assert follower.beats.boot_of(NodeId(1)) == 2
    assert follower.beats.leader_contact(G, Term(4), leader.replica) == NEVER
    assert not follower.beats.heard(leader.info, Tick(30))
    assert follower.beats.boot_of(NodeId(1)) == 2
    assert follower.beats.last_heard(NodeId(1)) == 20


def test_a_lost_list_is_sent_again() -> None:
    leader, follower = pair()
    leader.beats.beat(follower.info.node)  # lost
    beat, _ = exchange(leader, follower, 10)
    assert beat.led is not None


def test_another_disk_under_the_same_node_number_is_not_the_same_replica() -> None:
    leader, follower = pair()
    exchange(leader, follower, 10)
    impostor = ReplicaId(leader.info.node, StoreId(999))
    assert follower.beats.leader_contact(G, Term(4), impostor) == NEVER
