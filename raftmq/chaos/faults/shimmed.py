"""Faults that the preloaded library makes. Proof: what it counted."""

from __future__ import annotations

from raftmq.chaos import shim
from raftmq.chaos.arena import Means
from raftmq.chaos.faults.base import Fault, NotAsPlanned, ended, named
from raftmq.chaos.plans import ClockJump, SlowSync, SyncError
from raftmq.ids import NodeId

STOPS_SECONDS = 5.0
"""A node under load syncs many times a second: by then it has met the error and ended."""


class SyncErrorFault(Fault[SyncError]):
    """Healed, the node is started again: that it stopped by itself is part of the proof."""

    _target: NodeId | None = None

    @classmethod
    def available(cls, plan: SyncError, means: Means) -> str | None:
        return means.why_no_shims or None

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


class SlowSyncFault(Fault[SlowSync]):
    _targets: tuple[NodeId, ...] = ()

    @classmethod
    def available(cls, plan: SlowSync, means: Means) -> str | None:
        return means.why_no_shims or None

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


class ClockJumpFault(Fault[ClockJump]):
    _targets: tuple[NodeId, ...] = ()

    @classmethod
    def available(cls, plan: ClockJump, means: Means) -> str | None:
        return means.why_no_shims or None

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
