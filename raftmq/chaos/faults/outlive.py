"""A node that is away until nobody has the records any more that it would go on with.

Proof: the logs of all others begin behind what it had, and it says that it has fetched a snapshot.
"""

from __future__ import annotations

import asyncio

from raftmq.chaos.arena import TOPIC, Arena
from raftmq.chaos.faults.base import Fault, Layered, NotAsPlanned, named
from raftmq.chaos.faults.messages import SilenceFault
from raftmq.chaos.faults.network import CutFault
from raftmq.chaos.faults.processes import KillFault
from raftmq.chaos.plans import Cut, Kill, Outlive
from raftmq.errors import RaftmqError
from raftmq.ids import NodeId

REMOVED_SECONDS = 90.0
FETCHED_SECONDS = 60.0
BEGUN, DONE = "fetching snapshot", "snapshot fetched"
"""What a node says of it in its log."""


class OutliveFault(Fault[Outlive]):
    """Away by a cut or by a kill, which it is told to choose. It is healed when it is outlived, not before."""

    _target: NodeId | None = None
    _away: Fault[Cut] | Fault[Kill] | None = None

    @property
    def title(self) -> str:
        where = named((self._target,)) if self._target else self.plan.target
        return f"keep {where} away until its place in the logs is gone ({self.plan.manner})"

    async def inject(self) -> None:
        (node,) = self.arena.choose(self.plan.target)
        self._target = node
        had = {r.partition: r.log_end_offset for r in await self.arena.admin.cluster.list_replicas(node, (TOPIC,))}
        self._away = _away(self.plan, node, self.arena)
        self.means = self._away.means
        await self._away.inject()
        deadline = asyncio.get_running_loop().time() + REMOVED_SECONDS
        while any(start <= had[partition] for partition, start in (await self._starts()).items()):
            if asyncio.get_running_loop().time() > deadline:
                raise NotAsPlanned(f"the others still have what node {node} needs, {REMOVED_SECONDS:.0f} s later")
            await asyncio.sleep(0.25)
        self.proof.evidence |= {"had_up_to": had, "others_begin_at": await self._starts()}

    async def _starts(self) -> dict[int, int]:
        try:
            return {one.partition: one.log_start_offset for one in await self.arena.admin.list_offsets(TOPIC)}
        except RaftmqError:
            return {0: 0}

    async def heal(self) -> None:
        if self._target is None or self._away is None:
            return
        node, begun, done = self._target, self._said(BEGUN), self._said(DONE)
        await self._away.heal()
        self.proof.evidence["away"] = self._away.proof.evidence
        interrupted = 0
        while interrupted < self.plan.interrupt and await self._says(BEGUN, begun):
            begun = self._said(BEGUN)
            await self.arena.processes.kill(node)
            interrupted += 1
            await self.arena.processes.start(node)
        fetched = await self._says(DONE, done)
        self.proof.evidence |= {"interrupted": interrupted, "snapshots_fetched": fetched}
        is_complete = "others_begin_at" in self.proof.evidence and interrupted == self.plan.interrupt
        self.proof.fired = self._away.proof.fired and fetched > 0 and is_complete

    def _said(self, words: str) -> int:
        """How often the node has said something since the run began."""
        assert self._target is not None
        return self.arena.processes.log_file(self._target).read_text(errors="replace").count(words)

    async def _says(self, words: str, before: int) -> int:
        """Wait until it says it once more. Returns how often it has; 0 where it did not in time."""
        deadline = asyncio.get_running_loop().time() + FETCHED_SECONDS
        while (more := self._said(words) - before) == 0:
            if asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(0.05)
        return more


class LayeredOutliveFault(OutliveFault, Layered[Outlive]):
    """The same without proxies."""


def _away(plan: Outlive, node: NodeId, arena: Arena) -> Fault[Cut] | Fault[Kill]:
    if plan.manner == "kill":
        return KillFault(Kill(fault="kill", target=node, at=0), arena)
    cut = Cut(fault="cut", shape="isolate", target=node, at=0)
    return CutFault(cut, arena) if arena.proxies is not None else SilenceFault(cut, arena)
