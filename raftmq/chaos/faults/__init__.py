"""The faults, each a class with `inject`, `heal`, `available` and a proof that it fired."""

from __future__ import annotations

from typing import Any

from raftmq.chaos.arena import Arena, Means
from raftmq.chaos.faults.base import Fault
from raftmq.chaos.faults.cluster import LeaderStormFault, TwinFault
from raftmq.chaos.faults.disk import DamageFault, DiskFullFault, PowerCutFault
from raftmq.chaos.faults.network import CutFault, DisturbFault
from raftmq.chaos.faults.processes import KillFault, PauseFault, RollingRestartFault
from raftmq.chaos.faults.shimmed import ClockJumpFault, SlowSyncFault, SyncErrorFault
from raftmq.chaos.plans import FaultPlan

_CLASSES: dict[str, type[Fault[Any]]] = {
    "kill": KillFault,
    "pause": PauseFault,
    "rolling-restart": RollingRestartFault,
    "cut": CutFault,
    "disturb": DisturbFault,
    "sync-error": SyncErrorFault,
    "slow-sync": SlowSyncFault,
    "disk-full": DiskFullFault,
    "power-cut": PowerCutFault,
    "clock-jump": ClockJumpFault,
    "damage": DamageFault,
    "twin": TwinFault,
    "leader-storm": LeaderStormFault,
}
SHIMMED = frozenset({"sync-error", "slow-sync", "clock-jump"})
"""Faults for which the nodes have to be started with the shim."""


def make(plan: FaultPlan, arena: Arena) -> Fault[Any]:
    return _CLASSES[plan.fault](plan, arena)


def why_unavailable(plan: FaultPlan, means: Means) -> str | None:
    """Why this machine cannot do it, or None."""
    return _CLASSES[plan.fault].available(plan, means)
