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

from raftmq.ids import NodeId
from raftmq.ports import Channel, Frame
from raftmq.sim.calls import Call
from raftmq.sim.process import Agenda, Process, between
from raftmq.sim.weather import Cut, Weather

if TYPE_CHECKING:
    from raftmq.sim.links import Dialer
    from raftmq.sim.node import NodeProcess

KEEPALIVE_MICROS = (1_300_000, 2_300_000)
"""How long a dead connection goes unnoticed."""


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
        self.unanswered: dict[Call, None] = {}
        """Calls whose request or answer was lost."""

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
        """Every link is whole again, and whoever waits for what was lost is told: its connection is reset."""
        for source, target in sorted(self._cuts):
            self.heal(source, target)
        for call in list(self.unanswered):
            call.broken()

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
        return between(self._rng, self.weather.latency)

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
        call = Call(self, source, number, node, serve, timeout_s)
        return await call.run()
