"""Who holds a session, by what the controller's leader hears."""

from __future__ import annotations

from dataclasses import replace

from raftmq.controller.sessions import Sessions
from raftmq.ids import BootCount, NodeId, ReplicaId, StoreId, Tick
from raftmq.metadata.events import NodeFenced, NodeRegistered
from raftmq.metadata.image import MetadataImage

TIMEOUT = 6_000


def registered(node: int, boot: int = 1) -> NodeRegistered:
    return NodeRegistered(
        id=ReplicaId(NodeId(node), StoreId(100 + node)),
        boot=BootCount(boot),
        host="127.0.0.1",
        client_port=9400 + node,
        peer_host="127.0.0.1",
        peer_port=9500 + node,
        http_port=9600 + node,
        rack="",
        max_cluster_version=1,
    )


class World:
    """Two nodes; ``silent`` are those that are not heard."""

    def __init__(self) -> None:
        self.image = MetadataImage().replay(registered(1)).replay(registered(2))
        self.silent: set[int] = set()
        self.sessions = Sessions(Tick(0), TIMEOUT, lambda member: TIMEOUT if member.node in self.silent else 0)

    def observe(self, now: int) -> tuple[list[NodeId], list[NodeId]]:
        return self.sessions.observe(self.image, Tick(now))


def test_a_silent_node_is_fenced_and_unfenced_when_it_is_heard() -> None:
    world = World()
    world.silent = {2}
    assert world.observe(TIMEOUT) == ([2], [])
    world.image = world.image.replay(NodeFenced(NodeId(2)))
    assert world.observe(TIMEOUT + 1) == ([], [])
    world.silent = set()
    assert world.observe(TIMEOUT + 2) == ([], [2])


def test_a_new_leader_waits_one_timeout_before_it_fences_anybody() -> None:
    world = World()
    world.silent = {1, 2}
    assert world.observe(TIMEOUT - 1) == ([], [])
    assert world.observe(TIMEOUT) == ([1, 2], [])


def test_a_session_grows_old_only_without_a_break() -> None:
    world = World()
    world.observe(0)
    assert world.sessions.age(NodeId(2), Tick(500)) == 500
    world.silent = {2}
    world.observe(600)
    assert world.sessions.age(NodeId(2), Tick(700)) == 0
    world.silent = set()
    world.observe(800)
    assert world.sessions.age(NodeId(2), Tick(900)) == 100


def test_a_new_process_starts_a_new_session() -> None:
    world = World()
    world.observe(0)
    world.image = world.image.replay(replace(registered(2), boot=BootCount(2)))
    world.observe(1_000)
    assert world.sessions.age(NodeId(2), Tick(1_000)) == 0
    assert world.sessions.age(NodeId(1), Tick(1_000)) == 1_000


def test_a_node_that_was_never_seen_has_no_session() -> None:
    assert World().sessions.age(NodeId(7), Tick(0)) == 0
