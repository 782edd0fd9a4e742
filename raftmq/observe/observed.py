"""What there is to be seen of a node: its parts, as they come up."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from raftmq.assembly import Assembly
from raftmq.config import NodeConfig
from raftmq.controller.formation import Formation
from raftmq.observe.health import NodeState
from raftmq.ports import DiskLevel, StoreIdentity
from raftmq.replica.driver import Driver
from raftmq.replica.space import SpaceWatch
from raftmq.rpc.interceptor import CallCounts
from raftmq.rpc.server import PeerServer
from raftmq.rpc.transport import GrpcTransport


@dataclass(slots=True)
class Observed:
    """Filled in by the node while it starts; what is None is not there yet. Read on the event loop only."""

    config: NodeConfig
    counts: CallCounts
    lines_dropped: Callable[[], int] = lambda: 0
    """Log lines lost so far."""
    identity: StoreIdentity | None = None
    formation: Formation | None = None
    waiting: str = ""
    assembly: Assembly | None = None
    driver: Driver | None = None
    space: SpaceWatch | None = None
    transport: GrpcTransport | None = None
    peers: PeerServer | None = None
    is_serving: bool = False
    is_stopping: bool = False
    failure: str = ""

    @property
    def busy_s(self) -> float:
        """How long the write or sync under way has taken so far; 0 where none is."""
        since = None if self.driver is None else self.driver.stats.busy_since
        return 0.0 if since is None else time.monotonic() - since

    def state(self) -> NodeState:
        """The picture that health is judged by."""
        controller = None if self.assembly is None else self.assembly.controller.controller()
        return NodeState(
            disk_open=self.identity is not None,
            formed=self.formation is not None,
            waiting=self.waiting,
            replicas_open=self.assembly is not None,
            controller=None if controller is None else controller[0],
            serving=self.is_serving,
            removed=self.assembly is not None and self.assembly.is_removed,
            stopping=self.is_stopping,
            failure=self.failure,
            busy_s=self.busy_s,
            disk=DiskLevel.AMPLE if self.space is None else self.space.level,
        )
