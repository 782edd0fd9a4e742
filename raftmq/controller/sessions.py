"""Which nodes are alive, as the controller's leader sees it. Pure.

A node holds a session while its frames arrive. Fencing takes it out of placement and out of the *targets* of transfers;
it never stops a group that has its quorum, so a wrong verdict costs balance, never data.
"""

from __future__ import annotations

from collections.abc import Callable

from raftmq.ids import BootCount, NodeId, ReplicaId, Tick
from raftmq.metadata.image import MetadataImage


class Sessions:
    """Sessions of one term of the controller.

    ``silence(node)``: milliseconds since the node was heard, with the disk that it registered.
    """

    def __init__(self, now: Tick, timeout: int, silence: Callable[[ReplicaId], int]) -> None:
        self._began = now
        self._timeout = timeout
        self._silence = silence
        self._since: dict[NodeId, tuple[BootCount, Tick]] = {}

    def observe(self, image: MetadataImage, now: Tick) -> tuple[list[NodeId], list[NodeId]]:
        """(nodes to fence, nodes to unfence). A new leader waits one timeout before it fences anybody."""
        fence: list[NodeId] = []
        unfence: list[NodeId] = []
        for node_id, node in sorted(image.nodes.items()):
            alive = self._silence(node.id) < self._timeout
            if alive:
                if self._since.get(node_id, (None,))[0] != node.boot:
                    self._since[node_id] = (node.boot, now)
                if node.fenced:
                    unfence.append(node_id)
            else:
                self._since.pop(node_id, None)
                if not node.fenced and now - self._began >= self._timeout:
                    fence.append(node_id)
        return fence, unfence

    def age(self, node_id: NodeId, now: Tick) -> int:
        """How long this process of the node has been heard without a break, in milliseconds; 0 if it is not."""
        since = self._since.get(node_id)
        return 0 if since is None else now - since[1]
