"""The network: streams of frames between nodes, and calls to them.

A link has a direction, and each direction its own connections, as in production: node i sends to j on streams that i
opened. A link can be *cut* in three ways:

    DROP     a black hole: what is sent is lost, and the connection with it, once anybody notices
    HOLD     nothing arrives, but nothing is lost: it comes late, in order, when the link is healed
    REFUSE   a proxy in between closes everything: dials are refused, which looks like the death of the other process

Streams are TCP: in order, and a loss ends the stream. A seed may ask for *unruly* messages on top: lost without an end
of the stream, doubled, overtaken, or delivered long after. Production promises none of that, the core survives it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from raftmq import status
from raftmq.errors import Outcome, RaftmqError, Unavailable
from raftmq.ids import NodeId
from raftmq.ports import Channel, Frame
from raftmq.sim.process import Agenda, Process
from raftmq.sim.weather import Cut, Weather

if TYPE_CHECKING:
    import asyncio

    from raftmq.sim.links import Dialer
    from raftmq.sim.node import NodeProcess

KEEPALIVE_MICROS = (1_300_000, 2_300_000)
"""How long a dead connection goes unnoticed."""
CONNECT_MICROS = 1_000_000
"""How long a connection attempt waits for an answer."""


@dataclass(slots=True, eq=False)
class Stream:
    """One accepted connection of one channel, with what is held back on it."""

    dialer: Dialer
    target: NodeProcess
    last_arrival: int = 0
    held: list[Frame] = field(default_factory=list)
    is_open: bool = True


class Network:
    """Who reaches whom. Numbers are nodes' and clients'."""

    def __init__(self, agenda: Agenda, rng: Random, find: Callable[[int], NodeProcess | None]) -> None:
        self.weather = Weather()
        self.delivered = 0
        self.refusals: Counter[str] = Counter()
        """How calls to nodes failed, by reason."""
        self.transfers: Counter[str] = Counter()
        """What became of snapshots on their way."""
        self.sent: Callable[[NodeProcess, Frame], None] = lambda source, frame: None
        """Told of every frame that leaves a node."""
        self.arrives: Callable[[NodeProcess, NodeProcess, Channel, Frame], Frame] = lambda s, t, c, frame: frame
        """Told of every frame that reaches a node; may give another one to deliver instead."""
        self._agenda = agenda
        self._rng = rng
        self.find = find
        self._cuts: dict[tuple[int, int], Cut] = {}
        self._streams: dict[tuple[int, int], list[Stream]] = {}
        self._limbo: dict[tuple[int, int], list[Stream]] = {}
        """Streams that have ended while something is held on them: it comes late, when nobody expects it."""

    # -- faults ------------------------------------------------------------------------------------------------------

    def cut(self, source: int, target: int, how: Cut) -> None:
        """Cut the link from `source` to `target`, one way."""
        self._cuts[source, target] = how
        for stream in self._streams.get((source, target), []):
            if how is Cut.REFUSE:
                self.end(stream, self.delay())
            else:
                self._agenda.after(self._rng.randint(*KEEPALIVE_MICROS), self._keepalive, stream, how)

    def heal(self, source: int, target: int) -> None:
        """End the cut of one link: what was held arrives, a stream that has lost something ends."""
        how = self._cuts.pop((source, target), None)
        streams = list(self._streams.get((source, target), []))
        for stream in [*self._limbo.pop((source, target), []), *streams]:
            if how is Cut.DROP:
                self.end(stream, self.delay())
            held, stream.held = stream.held, []
            for frame in held:
                self._send(stream, frame)

    def heal_all(self) -> None:
        for source, target in sorted(self._cuts):
            self.heal(source, target)

    def is_cut(self, source: int, target: int) -> Cut | None:
        return self._cuts.get((source, target))

    @property
    def cuts(self) -> dict[tuple[int, int], Cut]:
        return dict(sorted(self._cuts.items()))

    def reset_all(self) -> None:
        """End every stream that is up: they are dialled anew."""
        for _, streams in sorted(self._streams.items()):
            for stream in list(streams):
                self.end(stream, self.delay())

    def _keepalive(self, stream: Stream, how: Cut) -> None:
        if self._cuts.get((stream.dialer.source.number, stream.target.number)) is how:
            self._end(stream)

    def died(self, process: NodeProcess, silently: bool) -> None:
        """`process` is gone. Its peers notice by a reset, or (`silently`: the machine is gone too) by keepalive."""
        for (source, target), streams in sorted(self._streams.items()):
            for stream in list(streams):
                if target == process.number:
                    quiet = silently or (source, target) in self._cuts
                    self.end(stream, self._rng.randint(*KEEPALIVE_MICROS) if quiet else self.delay())
                elif source == process.number:
                    streams.remove(stream)  # what it sent before is on its way; nobody is left to be told of the end

    def stopped(self, process: NodeProcess) -> None:
        """`process` was stopped: pings to it stay unanswered."""
        for (_, target), streams in sorted(self._streams.items()):
            for stream in streams:
                if target == process.number:
                    self._agenda.after(self._rng.randint(*KEEPALIVE_MICROS), self._still_stopped, stream)

    def _still_stopped(self, stream: Stream) -> None:
        if stream.target.is_paused and stream.target.is_alive:
            self._end(stream)

    # -- streams -----------------------------------------------------------------------------------------------------

    def delay(self) -> int:
        """One way, for one message."""
        return self._rng.randint(*self.weather.latency)

    def later(self, call: Callable[..., None], *arguments: object) -> None:
        """Something arrives after one way."""
        self._agenda.after(self.delay(), call, *arguments)

    def dial(self, dialer: Dialer, attempt: int) -> None:
        """A node wants a stream. ``dialer`` is told what comes of it."""
        self._agenda.after(self.delay(), self._dialled, dialer, attempt)

    def _dialled(self, dialer: Dialer, attempt: int) -> None:
        source, target = dialer.source.number, dialer.node
        how = self._cuts.get((source, target))
        if how in (Cut.DROP, Cut.HOLD):
            return  # the dialer loses patience
        process = self.find(target)
        if how is Cut.REFUSE or process is None:
            self._agenda.after(self.delay(), dialer.source.post, dialer.refused, attempt)
            return
        process.post(self._greeted, dialer, attempt, process)

    def _greeted(self, dialer: Dialer, attempt: int, process: NodeProcess) -> None:
        """On the target's loop: its listener reads the hello."""
        if not process.is_formed or not dialer.source.is_alive:
            self._agenda.after(self.delay(), dialer.source.post, dialer.refused, attempt)
            return
        stream = Stream(dialer, process)
        if not process.accept(stream):
            self._agenda.after(self.delay(), dialer.source.post, dialer.refused, attempt)
            return
        self._agenda.after(self.delay(), self._answered, dialer, attempt, stream)

    def _answered(self, dialer: Dialer, attempt: int, stream: Stream) -> None:
        source, target = dialer.source.number, dialer.node
        if (source, target) in self._cuts or not stream.target.is_alive:
            return
        dialer.source.post(dialer.accepted, attempt, stream)

    def opened(self, stream: Stream) -> None:
        """The dialer took the stream into use."""
        key = stream.dialer.source.number, stream.target.number
        self._streams.setdefault(key, []).append(stream)
        if not stream.target.is_alive:
            self.end(stream, self.delay())
        elif stream.target.is_paused:
            self._agenda.after(self._rng.randint(*KEEPALIVE_MICROS), self._still_stopped, stream)
        elif (how := self._cuts.get(key)) is not None:
            self._agenda.after(self._rng.randint(*KEEPALIVE_MICROS), self._keepalive, stream, how)

    def end(self, stream: Stream, delay: int) -> None:
        """The connection breaks; the dialer hears of it in `delay` microseconds."""
        self._agenda.after(delay, self._end, stream)

    def _end(self, stream: Stream) -> None:
        if stream.is_open:
            stream.is_open = False
            key = stream.dialer.source.number, stream.target.number
            streams = self._streams.get(key, [])
            if stream in streams:
                streams.remove(stream)
            if stream.held:
                self._limbo.setdefault(key, []).append(stream)
            stream.dialer.source.post(stream.dialer.ended, stream)

    def send(self, stream: Stream, frame: Frame) -> None:
        """A frame leaves."""
        self.sent(stream.dialer.source, frame)
        if self.weather.is_unruly:
            self._send_unruly(stream, frame)
        else:
            self._send(stream, frame)

    def _send(self, stream: Stream, frame: Frame) -> None:
        arrival = max(stream.last_arrival, self._agenda.now + self.delay())
        stream.last_arrival = arrival
        self._agenda.after(arrival - self._agenda.now, self._arrived, stream, frame)

    def _send_unruly(self, stream: Stream, frame: Frame) -> None:
        rng, weather = self._rng, self.weather
        parts = [frame]
        if len(frame.messages) > 1:
            parts = [Frame(frame.heartbeat, frame.heartbeat_ack, (), frame.notices)] if frame.heartbeat else []
            parts += [Frame(messages=(message,)) for message in frame.messages]
        for part in parts:
            if rng.random() < weather.stale:
                self._agenda.after(rng.randint(1_000, weather.stale_micros), self._arrived_late, stream, part)
            if rng.random() < weather.lost:
                continue
            if rng.random() < weather.doubled:
                self._agenda.after(self.delay(), self._arrived, stream, part)
            if rng.random() < weather.overtaken:
                self._agenda.after(self.delay() + rng.randint(0, 20_000), self._arrived, stream, part)
            else:
                self._send(stream, part)

    def _arrived(self, stream: Stream, frame: Frame) -> None:
        how = self._cuts.get((stream.dialer.source.number, stream.target.number))
        if how is Cut.HOLD or stream.held:
            stream.held.append(frame)
        elif how is None and stream.target.takes(stream):
            self._deliver(stream, frame)

    def _arrived_late(self, stream: Stream, frame: Frame) -> None:
        if (stream.dialer.source.number, stream.target.number) not in self._cuts:
            self._deliver(stream, frame)

    def _deliver(self, stream: Stream, frame: Frame) -> None:
        target = stream.target
        if target.is_alive:
            self.delivered += 1
            frame = self.arrives(stream.dialer.source, target, stream.dialer.channel, frame)
            target.post(target.on_frame, stream.dialer.source.info, frame)

    def probe(self, dialer: Dialer) -> None:
        """Is the process at the other end gone? Only a refusal is a proof; see ``rpc.probe``."""
        self._agenda.after(2 * self.delay(), self._probed, dialer)

    def _probed(self, dialer: Dialer) -> None:
        how = self._cuts.get((dialer.source.number, dialer.node))
        gone = how is Cut.REFUSE or (how is None and self.find(dialer.node) is None)
        dialer.source.post(dialer.probed, gone)

    # -- calls -------------------------------------------------------------------------------------------------------

    async def call(
        self,
        source: Process,
        number: int,
        node: NodeId,
        serve: Callable[[NodeProcess], Awaitable[bytes]],
        timeout_s: float,
    ) -> bytes:
        """One request and its answer. Raises RaftmqError as gRPC's statuses would be read."""
        call = _Call(self, source, number, node, serve, timeout_s)
        return await call.run()


class _Call:
    """One request on its way to a node, and back."""

    def __init__(
        self,
        network: Network,
        source: Process,
        number: int,
        node: NodeId,
        serve: Callable[[NodeProcess], Awaitable[bytes]],
        timeout_s: float,
    ) -> None:
        self._network = network
        self._agenda = network._agenda
        self._rng = network._rng
        self._source = source
        self._link = (number, int(node))
        self._node = node
        self._serve = serve
        self._timeout_s = timeout_s
        self._answer: asyncio.Future[bytes] = source.loop.create_future()
        self._task: asyncio.Task[None] | None = None
        self._target: NodeProcess | None = None

    async def run(self) -> bytes:
        loop = self._source.loop
        timer = loop.call_later(self._timeout_s, self._fail, status.decode("DEADLINE_EXCEEDED", "no answer", ()))
        cut = self._network.is_cut(*self._link)
        if cut in (Cut.DROP, Cut.HOLD) and self._rng.random() < 0.5:
            # The connection is known to be dead already.
            self._later(min(CONNECT_MICROS, int(self._timeout_s * 900_000)), self._fail, _unconnected(self._node))
        elif not self._is_lost() and cut not in (Cut.DROP, Cut.HOLD):
            self._agenda.after(self._network.delay(), self._arrive)
        try:
            return await self._answer
        finally:
            timer.cancel()
            if self._task is not None and not self._task.done():
                # The stream is reset, and the other side's handler cancelled.
                self._agenda.after(self._network.delay(), self._cancel)

    def _later(self, delay: int, call: Callable[..., None], error: RaftmqError) -> None:
        self._agenda.after(delay, self._source.post, call, error)

    def _is_lost(self) -> bool:
        return self._rng.random() < self._network.weather.call_loss

    def _fail(self, error: RaftmqError) -> None:
        if not self._answer.done():
            self._answer.set_exception(error)

    def _arrive(self) -> None:
        cut = self._network.is_cut(*self._link)
        process = self._network.find(self._node)
        if cut in (Cut.DROP, Cut.HOLD):
            return
        if cut is Cut.REFUSE or process is None:
            self._later(self._network.delay(), self._fail, _unconnected(self._node))
            return
        self._network.delivered += 1
        self._target = process
        process.calls[self] = None
        process.post(self._start)

    def _start(self) -> None:
        assert self._target is not None
        self._task = self._target.loop.create_task(self._work(self._target))
        self._target.loop.call_later(self._timeout_s, self._cancel)

    def _cancel(self) -> None:
        if self._target is not None and self._task is not None and self._target.is_alive:
            self._target.loop.call_soon(self._task.cancel)

    async def _work(self, target: NodeProcess) -> None:
        try:
            data = await self._serve(target)
        except RaftmqError as error:
            self._network.refusals[error.reason] += 1
            wire = status.encode(error)
            self._reply(self._fail, status.decode(wire.code, wire.message, wire.trailers))
        except Exception as bug:  # noqa: BLE001  an unhandled error in a call is a finding
            target.loop.failures.append(bug)
        else:
            self._reply(self._succeed, data)
        finally:
            target.calls.pop(self, None)

    def _reply(self, call: Callable[..., None], result: bytes | RaftmqError) -> None:
        if not self._is_lost():
            self._agenda.after(self._network.delay(), self._returned, call, result)

    def _returned(self, call: Callable[..., None], result: bytes | RaftmqError) -> None:
        if self._network.is_cut(*self._link) is None:
            self._network.delivered += 1
            self._source.post(call, result)

    def _succeed(self, data: bytes) -> None:
        if not self._answer.done():
            self._answer.set_result(data)

    def broken(self) -> None:
        """The process that works on it has died."""
        if self._network.is_cut(*self._link) is None:
            self._later(self._network.delay(), self._fail, status.decode("UNAVAILABLE", "the connection was reset", ()))


def _unconnected(node: NodeId) -> RaftmqError:
    return Unavailable(f"no connection to node {node}", outcome=Outcome.NOT_APPLIED)
