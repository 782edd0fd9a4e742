"""Faults that the preloaded library makes. Proof: what it counted."""

from __future__ import annotations

from raftmq.chaos import shim
from raftmq.chaos.arena import Means
from raftmq.chaos.faults.base import NotAsPlanned, Shimmed, ended, named
from raftmq.chaos.plans import ClockJump, ClockRate, Die, DiskFull, SlowSync, SyncError
from raftmq.ids import NodeId

STOPS_SECONDS = 5.0
"""A node under load syncs many times a second: by then it has met the error and ended."""


class SyncErrorFault(Shimmed[SyncError]):
    """Healed, the node is started again: that it stopped by itself is part of the proof."""

    _target: NodeId | None = None

    @property
    def title(self) -> str:
        return f"fsync EIO on {named((self._target,)) if self._target else self.plan.target}"

    async def inject(self) -> None:
        (node,) = self.arena.choose(self.plan.target)
        cells, pid = self.arena.shims[node], self.arena.processes.pid(node)
        if pid is None:
            raise NotAsPlanned(f"node {node} does not run")
        self._target = node
        before = cells[shim.FAILED]
        cells[shim.FAIL_SYNCS] = self.plan.count
        stopped = await ended(self.arena.processes, node, STOPS_SECONDS)
        failed = cells[shim.FAILED] - before
        self.proof.evidence |= {"syncs_failed": failed, "node_stopped": stopped}
        self.proof.fired = failed > 0
        if failed and not stopped:
            self.proof.violation = f"node {node} was told that a sync failed, and went on"

    async def heal(self) -> None:
        if self._target is None:
            return
        self.arena.shims[self._target][shim.FAIL_SYNCS] = 0
        if self.arena.processes.pid(self._target) is None:
            await self.arena.processes.start(self._target)


class SlowSyncFault(Shimmed[SlowSync]):
    _targets: tuple[NodeId, ...] = ()

    @property
    def title(self) -> str:
        return f"fsync takes {self.plan.delay_ms} ms on {named(self._targets) or self.plan.target}"

    async def inject(self) -> None:
        self._targets = self.arena.choose(self.plan.target)
        self._before = {node: self.arena.shims[node][shim.SLOWED] for node in self._targets}
        for node in self._targets:
            self.arena.shims[node][shim.SLOW_SYNC_US] = self.plan.delay_ms * 1000

    async def heal(self) -> None:
        slowed = {}
        for node in self._targets:
            self.arena.shims[node][shim.SLOW_SYNC_US] = 0
            slowed[str(node)] = self.arena.shims[node][shim.SLOWED] - self._before[node]
        self.proof.evidence["syncs_slowed"] = slowed
        self.proof.fired = bool(slowed) and min(slowed.values()) > 0


class ClockJumpFault(Shimmed[ClockJump]):
    _targets: tuple[NodeId, ...] = ()

    @property
    def title(self) -> str:
        return f"clock {self.plan.offset_s:+} s on {named(self._targets) or self.plan.target}"

    async def inject(self) -> None:
        self._targets = self.arena.choose(self.plan.target)
        self._before = {node: self.arena.shims[node][shim.CHANGED] for node in self._targets}
        for node in self._targets:
            self.arena.shims[node][shim.CLOCK_NS] = self.plan.offset_s * 1_000_000_000

    async def heal(self) -> None:
        changed = {}
        for node in self._targets:
            self.arena.shims[node][shim.CLOCK_NS] = 0
            changed[str(node)] = self.arena.shims[node][shim.CHANGED] - self._before[node]
        self.proof.evidence["readings_changed"] = changed
        self.proof.fired = bool(changed) and min(changed.values()) > 0


class ClockRateFault(Shimmed[ClockRate]):
    _targets: tuple[NodeId, ...] = ()

    @property
    def title(self) -> str:
        return f"clocks at {self.plan.rate:g} times their rate on {named(self._targets) or self.plan.target}"

    async def inject(self) -> None:
        self._targets = self.arena.choose(self.plan.target)
        self._before = {node: self.arena.shims[node][shim.RATED] for node in self._targets}
        for node in self._targets:
            self.arena.shims[node][shim.CLOCK_RATE_PPM] = round((self.plan.rate - 1) * 1_000_000)

    async def heal(self) -> None:
        readings = {}
        for node in self._targets:
            self.arena.shims[node][shim.CLOCK_RATE_PPM] = 0
            readings[str(node)] = self.arena.shims[node][shim.RATED] - self._before[node]
        self.proof.evidence["readings_at_this_rate"] = readings
        self.proof.fired = bool(readings) and min(readings.values()) > 0


class DieFault(Shimmed[Die]):
    """Proof: the library counted itself to the point, and the process is gone."""

    _target: NodeId | None = None

    @property
    def title(self) -> str:
        where = {"before-sync": "before a sync", "after-sync": "after a sync", "in-write": "half way through a write"}
        return f"kill {named((self._target,)) if self._target else self.plan.target} {where[self.plan.where]}"

    @property
    def _cell(self) -> int:
        return {"before-sync": shim.DIE_BEFORE_SYNC, "after-sync": shim.DIE_AFTER_SYNC, "in-write": shim.DIE_IN_WRITE}[
            self.plan.where
        ]

    async def inject(self) -> None:
        (node,) = self.arena.choose(self.plan.target)
        cells, processes = self.arena.shims[node], self.arena.processes
        if processes.pid(node) is None:
            raise NotAsPlanned(f"node {node} does not run")
        self._target = node
        before = cells[shim.DIED]
        cells[self._cell] = self.plan.after
        is_gone = await ended(processes, node, STOPS_SECONDS)
        self.proof.evidence |= {"reached": cells[shim.DIED] - before, "process_gone": is_gone}
        self.proof.fired = is_gone and cells[shim.DIED] > before

    async def heal(self) -> None:
        if self._target is None:
            return
        self.arena.shims[self._target][self._cell] = 0
        if self.arena.processes.pid(self._target) is None:
            await self.arena.processes.start(self._target)


class NoSpaceFault(Shimmed[DiskFull]):
    """A full disk for those who may not mount one: writes to the database's files meet ENOSPC. Proof: their number."""

    @classmethod
    def available(cls, plan: DiskFull, means: Means) -> str | None:
        return means.why_no_disks if plan.leave_bytes else super().available(plan, means)

    @property
    def title(self) -> str:
        return f"disk full on node {self.plan.target}"

    async def inject(self) -> None:
        node = NodeId(self.plan.target)
        cells = self.arena.shims[node]
        before = cells[shim.REFUSED]
        cells[shim.NO_SPACE] = 1
        stopped = await ended(self.arena.processes, node, STOPS_SECONDS)
        self.proof.evidence |= {"writes_refused": cells[shim.REFUSED] - before, "node_stopped": stopped}
        self.proof.fired = cells[shim.REFUSED] > before

    async def heal(self) -> None:
        node = NodeId(self.plan.target)
        self.arena.shims[node][shim.NO_SPACE] = 0
        if self.arena.processes.pid(node) is None:
            await self.arena.processes.start(node)
