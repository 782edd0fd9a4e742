"""The loop that production uses does the same."""

from __future__ import annotations

import asyncio

import pytest
import uvloop

from raftmq.ids import NodeId
from raftmq.internal.v1 import peer_pb2
from raftmq.ports import Channel
from raftmq.rpc import peer_stream

from .nodes import CLUSTER, PATIENCE_S, Node, append, heartbeat

TWO = NodeId(2)


async def life_of_a_link() -> None:
    """Up, data, a forwarded call, lost, up again."""
    one, two = await Node(1).start(), await Node(2).start()
    one.transport.set_peers({TWO: ("localhost", two.port)})
    await one.recorder.until(lambda: len(one.recorder.ups) == len(Channel))
    one.transport.send(TWO, Channel.RAFT, heartbeat(1))
    one.transport.send(TWO, Channel.BULK, append(1, bytes(1_000_000)))
    await two.recorder.until(lambda: (two.recorder.beats, two.recorder.appended) == ([1], [1]))
    request = peer_pb2.ForwardRequest(cluster_id=CLUSTER, request=b"question")
    assert (await one.transport.forward(TWO, request, PATIENCE_S)).response == b"question"
    await two.stop()
    await one.recorder.until(lambda: one.recorder.losses == [(TWO, 1)])
    await two.start()
    await one.recorder.until(lambda: one.recorder.ups.count((TWO, Channel.RAFT)) == 2)
    await one.stop()
    await two.stop()


def test_a_link_lives_on_uvloop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_stream, "PROBE_TIMEOUT_S", PATIENCE_S)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(life_of_a_link())
