"""Links over real sockets: restarts, cuts, black holes, and the proof that a process is gone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from raftmq.ids import NodeId
from raftmq.internal.v1 import peer_pb2
from raftmq.ports import Channel
from raftmq.rpc import options, peer_stream
from raftmq.rpc.outbox import OutboxLimits
from raftmq.rpc.peer_stream import LinkStats
from raftmq.rpc.probe import Verdict, probe

from .nodes import CLUSTER, PATIENCE_S, Node, append, heartbeat, reply
from .relay import Relay

ONE, TWO = NodeId(1), NodeId(2)


class Link:
    """Node 1 dials node 2 through a relay."""

    def __init__(self, one: Node, two: Node, relay: Relay) -> None:
        self.one, self.two, self.relay = one, two, relay

    def stats(self, channel: Channel = Channel.RAFT) -> LinkStats:
        (stats,) = (stats for stats in self.one.transport.stats if stats.channel is channel)
        return stats

    async def up(self, times: int = 1) -> None:
        """Wait until the RAFT stream has come up for the given time."""
        ups = self.one.recorder.ups
        await self.one.recorder.until(lambda: ups.count((TWO, Channel.RAFT)) >= times)

    async def carries(self, sequence: int) -> None:
        self.one.transport.send(TWO, Channel.RAFT, heartbeat(sequence))
        await self.two.recorder.until(lambda: sequence in self.two.recorder.beats)


@asynccontextmanager
async def linked(limits: OutboxLimits | None = None) -> AsyncIterator[Link]:
    one, two = await Node(1, limits=limits).start(), await Node(2).start()
    relay = await Relay(two.port).start()
    link = Link(one, two, relay)
    one.transport.set_peers({ONE: ("127.0.0.1", one.port), TWO: ("127.0.0.1", relay.port)})
    await one.recorder.until(lambda: len(one.recorder.ups) == len(Channel))
    yield link
    await one.stop()
    await two.stop()
    await relay.close()


@pytest.fixture
def patient_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that wait for a proof: a busy machine must not turn it into "don't know"."""
    monkeypatch.setattr(peer_stream, "PROBE_TIMEOUT_S", PATIENCE_S)


@pytest_asyncio.fixture
async def link() -> AsyncIterator[Link]:
    async with linked() as link:
        yield link


async def test_a_link_comes_back_after_the_peer_restarted(link: Link) -> None:
    await link.carries(1)
    await link.two.stop()
    await link.two.start()
    await link.up(times=2)
    await link.carries(2)
    assert link.stats().connects == 2


@pytest.mark.usefixtures("patient_probe")
async def test_a_killed_process_is_lost_once_and_named_by_its_boot(link: Link) -> None:
    """The proxy accepts and closes, as one does whose upstream refuses."""
    link.two.boot = 4
    await link.two.stop()
    await link.one.recorder.until(lambda: link.one.recorder.losses == [(TWO, 1)])
    await link.two.start()
    await link.up(times=2)
    await link.two.stop()
    await link.one.recorder.until(lambda: link.one.recorder.losses == [(TWO, 1), (TWO, 5)])


@pytest.mark.usefixtures("patient_probe")
async def test_a_refused_redial_is_proof_and_told_once_for_each_boot(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdicts: asyncio.Queue[Verdict] = asyncio.Queue()

    async def observed(host: str, port: int, timeout_s: float) -> Verdict:
        verdict = await probe(host, port, timeout_s)
        verdicts.put_nowait(verdict)
        return verdict

    monkeypatch.setattr(peer_stream, "probe", observed)
    for times in (2, 3):
        await link.relay.refuse()
        assert await asyncio.wait_for(verdicts.get(), PATIENCE_S) is Verdict.GONE
        await link.relay.start()
        await link.up(times)
    assert link.one.recorder.losses == [(TWO, 1)]


async def test_a_redial_that_succeeds_is_no_loss(link: Link) -> None:
    link.relay.cut()
    await link.up(times=2)
    await link.carries(1)
    assert link.one.recorder.losses == []


async def test_silence_after_a_cut_is_no_proof(link: Link) -> None:
    """New connections are accepted, but nothing comes through: the network may be at fault."""
    link.relay.forward.clear()
    link.relay.backward.clear()
    connections = link.relay.connections
    link.relay.cut()
    # The probe and the first dials of both streams: the probe has given up when the third one comes.
    await link.relay.until(lambda: link.relay.connections >= connections + 3)
    link.relay.forward.set()
    link.relay.backward.set()
    await link.up(times=2)
    assert link.one.recorder.losses == []


@pytest.mark.parametrize("direction", ["forward", "backward"])
async def test_a_black_hole_in_one_direction_is_noticed_and_the_other_link_lives(link: Link, direction: str) -> None:
    """No byte tells of it: only the unanswered ping does. Node 2's own streams do not go through this relay."""
    link.two.transport.set_peers({ONE: ("127.0.0.1", link.one.port)})
    await link.two.recorder.until(lambda: (ONE, Channel.RAFT) in link.two.recorder.ups)
    connections, chunks = link.relay.connections, link.relay.chunks
    await link.relay.until(lambda: link.relay.chunks > chunks + 20)  # many pings with no data between them
    getattr(link.relay, direction).clear()
    await link.relay.until(lambda: link.relay.connections > connections)
    assert not link.stats().is_up
    link.two.transport.send(ONE, Channel.RAFT, heartbeat(5))
    await link.one.recorder.until(lambda: 5 in link.one.recorder.beats)
    getattr(link.relay, direction).set()
    await link.up(times=2)
    await link.carries(6)
    assert link.one.recorder.losses == []


async def test_an_idle_link_stays_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ends ping while nothing is said, and neither punishes the other for it with a GOAWAY."""
    for name in ("PING_TIMEOUT_MS", "BULK_PING_TIMEOUT_MS"):  # a busy machine is not what is tested
        monkeypatch.setattr(options, name, int(PATIENCE_S * 1_000))
    async with linked() as link:
        chunks = link.relay.chunks
        await link.relay.until(lambda: link.relay.chunks > chunks + 100)  # each end must have pinged more than twice
        assert [link.stats(channel).connects for channel in Channel] == [1, 1]


async def test_a_peer_that_reads_nothing_costs_bounded_memory_and_a_restart() -> None:
    async with linked(OutboxLimits(max_bytes=1_000_000)) as link:
        link.relay.forward.clear()
        sent = 0
        async with asyncio.timeout(PATIENCE_S):
            while link.stats(Channel.BULK).overflows == 0:
                sent += 1
                link.one.transport.send(TWO, Channel.BULK, append(sent, bytes(100_000)))
                await asyncio.sleep(0)  # lets the link write what the socket takes
        link.relay.forward.set()
        await link.one.recorder.until(lambda: link.one.recorder.ups.count((TWO, Channel.BULK)) == 2)
        link.one.transport.send(TWO, Channel.BULK, append(sent + 1))
        await link.two.recorder.until(lambda: link.two.recorder.appended[-1:] == [sent + 1])
        received = link.two.recorder.appended
        assert received == sorted(set(received)), "nothing doubled, nothing overtaken"
        assert len(received) < sent
        assert link.stats(Channel.BULK).dropped_frames >= 1
        assert link.stats(Channel.RAFT).connects == 1, "the other stream was left alone"
        assert link.one.recorder.losses == []


@pytest.mark.usefixtures("patient_probe")
async def test_frames_for_a_peer_that_is_away_are_dropped_not_kept(link: Link) -> None:
    await link.two.stop()
    await link.one.recorder.until(lambda: bool(link.one.recorder.losses))
    link.one.transport.send(TWO, Channel.RAFT, heartbeat(1))
    assert link.stats().dropped_frames == 1
    await link.two.start()
    await link.up(times=2)
    await link.carries(2)
    assert link.two.recorder.beats == [2]


async def test_what_is_sent_from_on_peer_up_arrives(link: Link) -> None:
    """A leader answers the news of a stream with a probe, at once."""
    recorder = link.one.recorder
    remember = recorder.on_peer_up

    def probe_at_once(node: NodeId, channel: Channel) -> None:
        remember(node, channel)
        link.one.transport.send(node, channel, reply(9))

    recorder.on_peer_up = probe_at_once  # type: ignore[method-assign]
    link.relay.cut()
    await link.two.recorder.until(lambda: len(link.two.recorder.frames) == 2)
    assert [frame for _, frame in link.two.recorder.frames] == [reply(9), reply(9)]


async def test_a_changed_address_makes_new_links_and_a_removed_peer_has_none(link: Link) -> None:
    link.one.transport.set_peers({TWO: ("127.0.0.1", link.two.port)})
    await link.relay.close()  # nothing goes through it any more
    await link.up(times=2)
    await link.carries(1)
    link.one.transport.set_peers({})
    assert link.one.transport.stats == ()
    link.one.transport.send(TWO, Channel.RAFT, heartbeat(2))
    assert link.one.transport.dropped_unknown == 1


async def test_setting_the_same_peers_changes_nothing(link: Link) -> None:
    link.one.transport.set_peers({TWO: ("127.0.0.1", link.relay.port)})
    await link.carries(1)
    assert link.stats().connects == 1


@pytest.mark.usefixtures("patient_probe")
async def test_hurry_ends_the_back_off(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_stream, "BACKOFF_MIN_S", 10_000.0)
    monkeypatch.setattr(peer_stream, "BACKOFF_MAX_S", 10_000.0)
    await link.two.stop()
    await link.one.recorder.until(lambda: bool(link.one.recorder.losses))
    await link.two.start()
    link.one.transport.hurry(TWO)
    await link.up(times=2)


async def test_closing_calls_nobody_back(link: Link) -> None:
    await link.one.transport.close()
    heard = list(link.one.recorder.log)
    await link.two.stop()
    await link.one.transport.close()
    assert link.one.recorder.log == heard


async def test_closing_does_not_wait_for_a_peer_that_reads_nothing(link: Link) -> None:
    link.relay.forward.clear()
    async with asyncio.timeout(PATIENCE_S):
        while link.stats(Channel.BULK).overflows == 0:
            queued, messages = link.stats(Channel.BULK).frames, link.stats(Channel.BULK).messages
            link.one.transport.send(TWO, Channel.BULK, append(1, bytes(1_000_000)))
            await asyncio.sleep(0)
            if queued > messages + 8:  # a write waits for the socket, and more behind it
                break
        await link.one.transport.close()


async def test_each_channel_has_a_connection_of_its_own(link: Link) -> None:
    """A snapshot or a forwarded call never stands in a heartbeat's way."""
    request = peer_pb2.ForwardRequest(cluster_id=CLUSTER)
    await link.one.transport.forward(TWO, request, PATIENCE_S)
    assert link.relay.connections == 3


async def test_counters_tell_what_was_sent(link: Link) -> None:
    for sequence in (1, 2):
        link.one.transport.send(TWO, Channel.RAFT, heartbeat(sequence))
    await link.two.recorder.until(lambda: link.two.recorder.beats == [1, 2])
    stats = link.stats()
    assert (stats.frames, stats.messages, stats.dropped_frames, stats.overflows) == (2, 2, 0, 0)
    inbound = link.two.server.stats
    assert (inbound.streams, inbound.messages, inbound.bytes) == (2, 2, stats.bytes)
