"""A power cut without root: nodes are killed, and what they had not synced is taken back."""

from __future__ import annotations

import asyncio
from pathlib import Path

from raftmq.chaos import shim
from raftmq.chaos.faults.base import NotAsPlanned, Shimmed, named
from raftmq.chaos.plans import PowerCut
from raftmq.chaos.shim.unsynced import Synced
from raftmq.ids import NodeId

HOLD_SECONDS = 30
"""Syncs are held, so that something lies behind the last one when the power fails; the kill ends that."""
WRITES_SECONDS = 5.0
"""A node under load writes many times a second."""


class UnsyncedLossFault(Shimmed[PowerCut]):
    """Proof: how many bytes of the nodes' write-ahead logs were taken back, of one of them at least (others may have
    had nothing to write once a majority waited for its syncs); and none were written that cannot be."""

    means = "preloaded library: killed, and bytes that were not synced taken back"
    keeps_synced = True
    _targets: tuple[NodeId, ...] = ()

    @property
    def title(self) -> str:
        return f"power cut of {named(self._targets) or self.plan.target}"

    async def inject(self) -> None:
        processes, shims = self.arena.processes, self.arena.shims
        chosen = self.arena.choose(self.plan.target)
        self._targets = tuple(node for node in chosen if processes.pid(node) is not None)
        if not self._targets:
            raise NotAsPlanned(f"none of the nodes meant by '{self.plan.target}' runs")
        for node in self._targets:
            shims[node][shim.SLOW_SYNC_US] = HOLD_SECONDS * 1_000_000
        deadline = asyncio.get_running_loop().time() + WRITES_SECONDS
        while not any(self._is_behind(node) for node in self._targets):
            if asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(0.01)
        await asyncio.gather(*(processes.kill(node) for node in self._targets))

    def _is_behind(self, node: NodeId) -> bool:
        return any(path.suffix == ".log" for path in self._table(node).unsynced(self._directory(node)))

    async def heal(self) -> None:
        taken = {}
        for node in self._targets:
            self.arena.shims[node][shim.SLOW_SYNC_US] = 0
            lost = await asyncio.to_thread(self._table(node).take_back, self._directory(node))
            logs = sum(count for path, count in lost.items() if path.suffix == ".log")
            taken[str(node)] = [logs, sum(lost.values()) - logs]
        not_kept = sum(self.arena.shims[node][shim.NOT_KEPT] for node in self._targets)
        self.proof.evidence |= {"bytes_taken_back_of_logs_and_others": taken, "writes_that_cannot_be": not_kept}
        self.proof.fired = any(logs > 0 for logs, _ in taken.values()) and not_kept == 0
        for node in self._targets:
            if self.arena.processes.pid(node) is None:
                await self.arena.processes.start(node)

    def _table(self, node: NodeId) -> Synced:
        table = self.arena.shims[node].synced
        assert table is not None, "the engine asks what a fault needs"
        return table

    def _directory(self, node: NodeId) -> Path:
        return self.arena.topology.config.node(node).data_directory
