"""Links that are cut or disturbed, by a real toxiproxy-server.

Proof: a probe through one of the links meets the fault, after one before it was answered; and for links that hold what
they are given, the answer comes once they are healed.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable

from raftmq.chaos.arena import Arena, Means
from raftmq.chaos.faults import links, probe
from raftmq.chaos.faults.base import Fault, NotAsPlanned
from raftmq.chaos.plans import Cut, Disturb
from raftmq.chaos.proxies import Proxies, Toxic
from raftmq.ids import NodeId

LOOK_SECONDS = 1.5
SLOWER_MS = 50
"""A narrow link holds the first bytes back for longer than this; a busy machine does so seldom."""
AFTER_HEAL_SECONDS = 60.0
"""The held probe ends with its answer; the server may take long to let go of what other connections held."""
PINGS = 2_000
"""34 kB: more than any limit_data or slicer needs to show itself."""


_owners = itertools.count(1)


def _owned(toxics: Iterable[Toxic]) -> tuple[Toxic, ...]:
    owner = next(_owners)
    return tuple(toxic._replace(owner=owner) for toxic in toxics)


def _proxies(arena: Arena) -> Proxies:
    if arena.proxies is None:
        raise NotAsPlanned("there are no proxies")
    return arena.proxies


async def _answering(proxies: Proxies, names: Iterable[str], *, pings: int) -> tuple[int, probe.Seen]:
    """Port of the first of some proxies behind which a node answers, and what was seen there; else of the last one."""
    port, seen = 0, probe.Seen()
    for name in dict.fromkeys(names):
        port = proxies.listen[name]
        seen = await probe.look(port, LOOK_SECONDS, pings=pings)
        if seen.answered_ms is not None:
            break
    return port, seen


class CutFault(Fault[Cut]):
    means = "toxiproxy"
    _target: NodeId | None = None
    _toxics: tuple[Toxic, ...] = ()
    _disabled: tuple[str, ...] = ()
    _held: asyncio.Task[probe.Seen] | None = None

    @classmethod
    def available(cls, plan: Cut, means: Means) -> str | None:
        return means.why_no_proxies or None

    @property
    def title(self) -> str:
        return links.title(self.plan, self._target)

    async def inject(self) -> None:
        proxies = _proxies(self.arena)
        (target,) = self.arena.choose(self.plan.target)
        peers = [node for node in self.arena.nodes if node != target]
        self.arena.rng.shuffle(peers)
        ways = links.directions(self.plan, target, peers)
        self._target = target
        self.proof.evidence["links"] = [f"{proxy} {stream}" for proxy, stream in ways]
        port, before = await _answering(proxies, [proxy for proxy, _ in ways], pings=1)
        if self.plan.manner == "refuse":
            self._disabled = tuple(sorted({proxy for proxy, _ in ways}))
            await proxies.enable(self._disabled, False)
        else:
            self._toxics = _owned(links.cutting(self.plan, target, peers))
            await proxies.add(self._toxics)
        during = await probe.look(port, LOOK_SECONDS)
        met = during.ended == "refused" if self._disabled else during.connected and during.answered_ms is None
        if self.plan.manner == "hold":
            self._held = asyncio.create_task(probe.look(port, self.plan.lasts + AFTER_HEAL_SECONDS))
        self.proof.evidence |= {"before": before.as_json(), "during": during.as_json()}
        self.proof.fired = before.answered_ms is not None and met

    async def heal(self) -> None:
        if self.arena.proxies is None:
            return
        await self.arena.proxies.remove(self._toxics)
        if self._disabled:
            await self.arena.proxies.enable(self._disabled, True)
        if self._held is not None:
            later = await self._held
            self.proof.evidence["delivered"] = later.as_json()
            self.proof.fired = self.proof.fired and later.answered_ms is not None


class DisturbFault(Fault[Disturb]):
    means = "toxiproxy"
    _toxics: tuple[Toxic, ...] = ()

    @classmethod
    def available(cls, plan: Disturb, means: Means) -> str | None:
        return means.why_no_proxies or None

    @property
    def title(self) -> str:
        attributes = ", ".join(f"{name} {value}" for name, value in self.plan.attributes.items())
        return f"{self.plan.toxic} on {self.plan.links} ({attributes})"

    async def inject(self) -> None:
        proxies = _proxies(self.arena)
        (target,) = self.arena.choose(self.plan.target)
        self._toxics = _owned(links.disturbing(self.plan, target, self.arena.nodes))
        if self.plan.toxic == "slow_close":
            await self._slow_to_close(proxies)
            return
        port, before = await _answering(proxies, [toxic.proxy for toxic in self._toxics], pings=PINGS)
        await proxies.add(self._toxics)
        during = await probe.look(port, LOOK_SECONDS, pings=PINGS)
        present = await proxies.present(self._toxics[0].proxy)
        self.proof.evidence |= {"before": before.as_json(), "during": during.as_json(), "server": present}
        self.proof.fired = bool(present) and before.answered_ms is not None and self._met(before, during)

    async def _slow_to_close(self, proxies: Proxies) -> None:
        """Connections are slow to end, and nothing else: one is ended, and it is seen when the other side ends it."""
        port, _ = await _answering(proxies, [toxic.proxy for toxic in self._toxics], pings=1)
        before = await probe.closing_ms(port, LOOK_SECONDS)
        await proxies.add(self._toxics)
        delay_ms = self.plan.attributes.get("delay", 0)
        during = await probe.closing_ms(port, LOOK_SECONDS + delay_ms / 1000)
        self.proof.evidence |= {"closed_before_ms": before, "closed_during_ms": during}
        self.proof.fired = before is not None and before < delay_ms <= (delay_ms if during is None else during)

    def _met(self, before: probe.Seen, during: probe.Seen) -> bool:
        """Whether the probe saw this very toxic."""
        attributes = self.plan.attributes
        match self.plan.toxic:
            case "latency":
                # Once each way, less the jitter; no answer within the wait is late as well.
                least = 2 * max(0, attributes.get("latency", 0) - attributes.get("jitter", 0))
                return during.answered_ms is None or during.answered_ms >= max(least, before.answered_ms or 0)
            case "reset_peer":
                return during.ended in ("reset", "closed") and during.pongs < before.pongs
            case "limit_data":
                return during.ended != "" and during.bytes <= attributes.get("bytes", 0)
            case "slicer":
                return during.done_ms is None or during.reads > before.reads
            case "bandwidth":
                return during.done_ms is None or during.done_ms > (before.done_ms or 0) + SLOWER_MS
            case other:
                raise NotAsPlanned(f"nothing shows that {other} fired")

    async def heal(self) -> None:
        if self.arena.proxies is not None:
            await self.arena.proxies.remove(self._toxics)
