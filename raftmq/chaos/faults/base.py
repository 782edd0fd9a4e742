"""What a fault is."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, TypeVar

from raftmq.chaos.arena import Arena, Means
from raftmq.chaos.nodes import Processes
from raftmq.chaos.plans import Timed
from raftmq.ids import NodeId

PlanT = TypeVar("PlanT", bound=Timed)


class NotAsPlanned(Exception):
    """A fault could not be injected. The text says why; the run goes on, and cannot pass."""


@dataclass(slots=True)
class Proof:
    """Whether the fault happened, and what shows it: nothing here is what was asked for, all of it was measured."""

    fired: bool = False
    evidence: dict[str, Any] = field(default_factory=dict)
    violation: str = ""
    """What a node did in the face of the fault that it must never do, where that shows at once."""


class Fault(ABC, Generic[PlanT]):
    """One occurrence. ``inject`` once, then ``heal`` once, whatever happened between; both may take their time."""

    means: str = "signals"
    """What it is done with, for the report: on another machine it may be something else."""
    keeps_synced: ClassVar[bool] = False
    """Whether the preloaded library has to keep what is synced, from the start of the nodes on."""

    def __init__(self, plan: PlanT, arena: Arena) -> None:
        self.plan = plan
        self.arena = arena
        self.proof = Proof()

    @classmethod
    def available(cls, plan: PlanT, means: Means) -> str | None:
        """Why this machine cannot do it, or None. Asked before the load begins."""
        return None

    @property
    @abstractmethod
    def title(self) -> str:
        """A few words for people; after `inject` with the nodes that it hit."""

    @abstractmethod
    async def inject(self) -> None:
        """Raises NotAsPlanned."""

    @abstractmethod
    async def heal(self) -> None:
        """Take it back, also where `inject` failed half way."""


class Shimmed(Fault[PlanT]):
    """A fault that the preloaded library makes."""

    means = "preloaded library"

    @classmethod
    def available(cls, plan: PlanT, means: Means) -> str | None:
        return means.why_no_shims or None


class Layered(Fault[PlanT]):
    """A fault that is made by the layer around what a node is told."""

    means = "message layer in the nodes"


async def ended(processes: Processes, node: NodeId, seconds: float) -> bool:
    """Wait until a node's process has ended by itself; False where it has not after so long."""
    deadline = asyncio.get_running_loop().time() + seconds
    while processes.pid(node) is not None:
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(0.02)
    return True


def named(nodes: tuple[int, ...]) -> str:
    """``node 1``, ``nodes 1, 2``; nothing before anybody was chosen."""
    if not nodes:
        return ""
    return f"node{'s' if len(nodes) > 1 else ''} {', '.join(map(str, nodes))}"
