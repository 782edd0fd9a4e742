"""What ``ports.Transport`` promises, for every implementation of it.

A subclass provides ``pair``: two nodes, 1 and 2, of which node 1's links to node 2 are up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import pytest

from raftmq.ids import NodeId
from raftmq.ports import Channel, Frame, Transport

from .nodes import Recorder, append, heartbeat, info, reply

TWO = NodeId(2)
LARGE = bytes(300_000)


class Pair(Protocol):
    """Node 1 sends, node 2 receives. ``max_pieces``: the bound of node 1's queues."""

    max_pieces: int

    @property
    def transport(self) -> Transport: ...

    @property
    def sender(self) -> Recorder: ...

    @property
    def receiver(self) -> Recorder: ...

    async def until(self, recorder: Recorder, condition: Callable[[], bool]) -> None:
        """Let the network work until `condition` holds for what `recorder` heard."""


class TransportConformance:
    """The promises, one test each."""

    async def test_both_channels_come_up(self, pair: Pair) -> None:
        assert sorted(pair.sender.ups) == [(TWO, Channel.RAFT), (TWO, Channel.BULK)]

    async def test_frames_name_their_sender(self, pair: Pair) -> None:
        pair.transport.send(TWO, Channel.RAFT, heartbeat(1))
        await pair.until(pair.receiver, lambda: pair.receiver.frames == [(info(1), heartbeat(1))])

    async def test_send_delivers_nothing_by_itself(self, pair: Pair) -> None:
        """It never blocks, and a receiver is never called from within it."""
        pair.transport.send(TWO, Channel.RAFT, heartbeat(1))
        assert pair.receiver.frames == []

    @pytest.mark.parametrize("channel", Channel)
    async def test_a_channel_keeps_the_order(self, pair: Pair, channel: Channel) -> None:
        for index in range(1, 101):
            pair.transport.send(TWO, channel, append(index, bytes(20_000)))
        await pair.until(pair.receiver, lambda: len(pair.receiver.appended) == 100)
        assert pair.receiver.appended == [*range(1, 101)]

    async def test_control_goes_before_data(self, pair: Pair) -> None:
        for index in (1, 2, 3):
            pair.transport.send(TWO, Channel.RAFT, append(index, LARGE))
        pair.transport.send(TWO, Channel.RAFT, heartbeat(7))
        pair.transport.send(TWO, Channel.RAFT, reply(5))
        await pair.until(pair.receiver, lambda: pair.receiver.appended == [1, 2, 3])
        first = pair.receiver.frames[0][1]
        assert first.heartbeat == heartbeat(7).heartbeat
        assert first.messages == reply(5).messages

    async def test_small_frames_travel_together(self, pair: Pair) -> None:
        for index in range(1, 51):
            pair.transport.send(TWO, Channel.RAFT, append(index))
        await pair.until(pair.receiver, lambda: pair.receiver.appended == [*range(1, 51)])
        assert len(pair.receiver.frames) == 1

    async def test_an_oversize_frame_is_split(self, pair: Pair) -> None:
        messages = tuple(message for index in range(1, 9) for message in append(index, LARGE).messages)
        pair.transport.send(TWO, Channel.RAFT, Frame(messages=messages))
        await pair.until(pair.receiver, lambda: len(pair.receiver.appended) == 8)
        assert [frame.messages for _, frame in pair.receiver.frames] == [(message,) for message in messages]

    async def test_heartbeats_are_never_merged_into_one(self, pair: Pair) -> None:
        for sequence in (1, 2, 3):
            pair.transport.send(TWO, Channel.RAFT, heartbeat(sequence))
        await pair.until(pair.receiver, lambda: pair.receiver.beats == [1, 2, 3])

    async def test_a_frame_to_an_unknown_node_is_dropped(self, pair: Pair) -> None:
        pair.transport.send(NodeId(99), Channel.RAFT, heartbeat(1))
        pair.transport.send(TWO, Channel.RAFT, heartbeat(2))
        await pair.until(pair.receiver, lambda: pair.receiver.beats == [2])

    async def test_a_full_queue_drops_and_the_stream_starts_over(self, pair: Pair) -> None:
        """Whoever lost something is told by ``on_peer_up``; the other channel is not touched."""
        ups = len(pair.sender.ups)
        pair.transport.send(TWO, Channel.RAFT, append(1))
        for index in range(1, pair.max_pieces + 2):
            pair.transport.send(TWO, Channel.BULK, append(index))
        await pair.until(pair.sender, lambda: pair.sender.ups[ups:] == [(TWO, Channel.BULK)])
        pair.transport.send(TWO, Channel.BULK, append(7_000))
        await pair.until(pair.receiver, lambda: pair.receiver.appended[-1:] == [7_000])
        assert pair.receiver.appended == [1, 7_000]
