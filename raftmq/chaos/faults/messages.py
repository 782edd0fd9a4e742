"""What nodes say to each other, disturbed in the node that hears it: see ``raftmq/chaos/frames.py``.

Messages come twice, out of order or out of date only like this. Cut and slow links are made like this where there is
no toxiproxy-server. Proof: what the layer in the nodes counted.
"""

from __future__ import annotations

from raftmq.chaos.arena import Means
from raftmq.chaos.faults import links
from raftmq.chaos.faults.base import Layered, PlanT, named
from raftmq.chaos.frames import Count, Order
from raftmq.chaos.plans import Cut, Disturb, Messages
from raftmq.ids import NodeId

NOT_BY_MESSAGES = "only a proxy can do this: {why_no_proxies}"


class _Counted(Layered[PlanT]):
    def _count(self, count: Count) -> dict[NodeId, int]:
        return {node: cells[count] for node, cells in self.arena.frames.items()}

    def _more(self, count: Count, before: dict[NodeId, int]) -> dict[NodeId, int]:
        return {node: now - before[node] for node, now in self._count(count).items()}


class MessagesFault(_Counted[Messages]):
    _KINDS = (
        ("duplicate", Order.DUPLICATE, Count.DUPLICATED),
        ("reorder", Order.REORDER, Count.REORDERED),
        ("replay", Order.REPLAY, Count.REPLAYED),
    )

    @property
    def title(self) -> str:
        wanted = [f"{name} {share} ‰" for name, _, _ in self._KINDS if (share := getattr(self.plan, name))]
        return f"messages: {', '.join(wanted)}"

    async def inject(self) -> None:
        self._before = {count: self._count(count) for _, _, count in self._KINDS}
        for name, order, _ in self._KINDS:
            for cells in self.arena.frames.values():
                cells[order] = getattr(self.plan, name)

    async def heal(self) -> None:
        fired = bool(self.arena.frames)
        for name, order, count in self._KINDS:
            for cells in self.arena.frames.values():
                cells[order] = 0
            if getattr(self.plan, name):
                more = self._more(count, self._before[count])
                self.proof.evidence[count.name.lower()] = {str(node): n for node, n in more.items()}
                fired = fired and sum(more.values()) > 0
        self.proof.fired = fired


class SilenceFault(_Counted[Cut]):
    """A cut without proxies. Nobody's connections are touched: what arrives through them is dropped, or held."""

    _pairs: tuple[tuple[int, int], ...] = ()
    _target: NodeId | None = None

    @classmethod
    def available(cls, plan: Cut, means: Means) -> str | None:
        if plan.shape == "clients" or plan.manner == "refuse":
            return NOT_BY_MESSAGES.format(why_no_proxies=means.why_no_proxies)
        return None

    @property
    def title(self) -> str:
        return links.title(self.plan, self._target)

    async def inject(self) -> None:
        (self._target,) = self.arena.choose(self.plan.target)
        peers = [node for node in self.arena.nodes if node != self._target]
        self.arena.rng.shuffle(peers)
        self._counted = Count.HELD if self.plan.manner == "hold" else Count.DROPPED
        self._before = self._count(self._counted)
        self._pairs = tuple(links.silences(self.plan, self._target, peers))
        self._mark(True)
        self.proof.evidence["not_heard"] = [f"{speaker} by {listener}" for speaker, listener in self._pairs]

    async def heal(self) -> None:
        self._mark(False)
        more = self._more(self._counted, self._before)
        listeners = {listener for _, listener in self._pairs}
        self.proof.evidence[self._counted.name.lower()] = {str(node): more[NodeId(node)] for node in sorted(listeners)}
        self.proof.fired = bool(listeners) and all(more[NodeId(node)] > 0 for node in listeners)

    def _mark(self, marked: bool) -> None:
        order = Order.HOLD_FROM if self.plan.manner == "hold" else Order.DROP_FROM
        for speaker, listener in self._pairs:
            self.arena.frames[NodeId(listener)].mark(order, [speaker], marked)
            self.arena.frames[NodeId(speaker)].mark(Order.MUTE_TO, [listener], marked)


class LateFault(_Counted[Disturb]):
    """Latency without proxies."""

    _pairs: tuple[tuple[int, int], ...] = ()

    @classmethod
    def available(cls, plan: Disturb, means: Means) -> str | None:
        if plan.toxic != "latency" or plan.links == "clients":
            return NOT_BY_MESSAGES.format(why_no_proxies=means.why_no_proxies)
        return None

    @property
    def title(self) -> str:
        return f"messages {self.plan.attributes.get('latency', 0)} ms late on {named(self._slow) or self.plan.links}"

    @property
    def _slow(self) -> tuple[int, ...]:
        return tuple(sorted({node for pair in self._pairs for node in pair}))

    async def inject(self) -> None:
        (target,) = self.arena.choose(self.plan.target)
        self._before = self._count(Count.DELAYED)
        self._pairs = tuple(
            (i, j)
            for i in self.arena.nodes
            for j in self.arena.nodes
            if i != j and (self.plan.links == "peers" or target in (i, j))
        )
        for speaker, listener in self._pairs:
            cells = self.arena.frames[NodeId(listener)]
            cells[Order.DELAY_MS] = self.plan.attributes.get("latency", 0)
            cells.mark(Order.DELAY_FROM, [speaker], True)

    async def heal(self) -> None:
        for speaker, listener in self._pairs:
            self.arena.frames[NodeId(listener)].mark(Order.DELAY_FROM, [speaker], False)
        more = self._more(Count.DELAYED, self._before)
        self.proof.evidence["delayed"] = {str(node): n for node, n in more.items()}
        self.proof.fired = sum(more.values()) > 0
