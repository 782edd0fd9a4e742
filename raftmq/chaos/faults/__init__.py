"""The faults, each a class with `inject`, `heal`, `available` and a proof that it fired."""

from __future__ import annotations

from typing import Any

from raftmq.chaos.arena import Arena, Means
from raftmq.chaos.faults.base import Fault, Layered, Shimmed
from raftmq.chaos.faults.cluster import LeaderStormFault, TwinFault
from raftmq.chaos.faults.consumers import SlowConsumersFault
from raftmq.chaos.faults.disk import DamageFault, DiskFullFault, PowerCutFault
from raftmq.chaos.faults.members import DrainNodeFault, MoveReplicasFault
from raftmq.chaos.faults.messages import LateFault, MessagesFault, SilenceFault
from raftmq.chaos.faults.network import CutFault, DisturbFault
from raftmq.chaos.faults.outlive import LayeredOutliveFault, OutliveFault
from raftmq.chaos.faults.processes import KillFault, PauseFault
from raftmq.chaos.faults.reads import ReadErrorFault, SlowReadFault
from raftmq.chaos.faults.restarts import RollingRestartFault
from raftmq.chaos.faults.shimmed import (
    ClockJumpFault,
    ClockRateFault,
    DieFault,
    NoSpaceFault,
    SlowSyncFault,
    SyncErrorFault,
)
from raftmq.chaos.faults.starve import StarveFault
from raftmq.chaos.faults.unsynced import UnsyncedLossFault
from raftmq.chaos.plans import FaultPlan

_CLASSES: dict[str, type[Fault[Any]]] = {
    "kill": KillFault,
    "pause": PauseFault,
    "rolling-restart": RollingRestartFault,
    "starve": StarveFault,
    "cut": CutFault,
    "disturb": DisturbFault,
    "messages": MessagesFault,
    "sync-error": SyncErrorFault,
    "slow-sync": SlowSyncFault,
    "read-error": ReadErrorFault,
    "slow-read": SlowReadFault,
    "die": DieFault,
    "disk-full": DiskFullFault,
    "power-cut": PowerCutFault,
    "clock-jump": ClockJumpFault,
    "clock-rate": ClockRateFault,
    "damage": DamageFault,
    "twin": TwinFault,
    "leader-storm": LeaderStormFault,
    "slow-consumers": SlowConsumersFault,
    "outlive": OutliveFault,
    "move-replicas": MoveReplicasFault,
    "drain-node": DrainNodeFault,
}
_WITHOUT_PROXIES: dict[str, type[Fault[Any]]] = {
    "cut": SilenceFault,
    "disturb": LateFault,
    "outlive": LayeredOutliveFault,
}
_WITHOUT_DISKS: dict[str, type[Fault[Any]]] = {"disk-full": NoSpaceFault, "power-cut": UnsyncedLossFault}


def _class(plan: FaultPlan, means: Means) -> type[Fault[Any]]:
    """What does it on this machine: the real thing, or what comes nearest to it without root or proxies."""
    instead: dict[str, type[Fault[Any]]] = {}
    if means.why_no_proxies:
        instead |= _WITHOUT_PROXIES
    if means.why_no_disks:
        instead |= _WITHOUT_DISKS
    return instead.get(plan.fault, _CLASSES[plan.fault])


def make(plan: FaultPlan, arena: Arena) -> Fault[Any]:
    return _class(plan, arena.means)(plan, arena)


def why_unavailable(plan: FaultPlan, means: Means) -> str | None:
    """Why this machine cannot do it, or None."""
    return _class(plan, means).available(plan, means)


def needs_shim(plan: FaultPlan, means: Means) -> bool:
    """Whether the nodes have to be started with the preloaded library."""
    return issubclass(_class(plan, means), Shimmed)


def needs_synced(plan: FaultPlan, means: Means) -> bool:
    """Whether that library has to keep what the nodes have synced."""
    return _class(plan, means).keeps_synced


def needs_layer(plan: FaultPlan, means: Means) -> bool:
    """Whether the nodes have to be started with the layer around what they are told."""
    return issubclass(_class(plan, means), Layered)
