"""Nodes that joined while this one heard nothing of it.

A node dials, and listens to, the nodes of its own metadata. One that was away while another joined does not know that
one, and if it leads the controller now, cannot be told either: its frames are those of a stranger. So a node that hears
of no controller asks the nodes that it knows who else there is, as often as it takes. What they say is an address to
dial and a number to listen to, nothing else: which disk has a vote is in the log alone (section 6 of the Raft paper:
servers take messages of leaders that their own configuration does not name).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import structlog

from raftmq.controller.joining import Identify, ask_all
from raftmq.ids import NodeId
from raftmq.internal.v1 import peer_pb2

_log = structlog.get_logger(__name__)

Address = tuple[str, int]
"""Host and port for other nodes."""

INTERVAL_S = 1.0
LOOKS_BEFORE_ASKING = 2
"""In intervals without a controller: elections are over long before, with the timeouts that most clusters have."""


class Acquaintances:
    """``addresses`` is what was heard of nodes that the metadata here does not know."""

    def __init__(
        self,
        cluster_id: str,
        request: peer_pb2.IdentifyRequest,
        identify: Identify,
        known: Callable[[], Mapping[NodeId, Address]],
        has_controller: Callable[[], bool],
        heard: Callable[[], None],
    ) -> None:
        """`known`: the peers that the metadata names. `heard` is called when ``addresses`` has changed."""
        self.addresses: dict[NodeId, Address] = {}
        self._cluster_id = cluster_id
        self._request = request
        self._identify = identify
        self._known = known
        self._has_controller = has_controller
        self._heard = heard

    async def run(self) -> None:
        """Until cancelled."""
        alone = 0
        while True:
            await asyncio.sleep(INTERVAL_S)
            alone = 0 if self._has_controller() else alone + 1
            if alone >= LOOKS_BEFORE_ASKING:
                await self._ask_around()

    async def _ask_around(self) -> None:
        known = self._known()
        answers = await ask_all(known, self._identify, self._request)
        told: dict[NodeId, Address] = {}
        for _, answer in sorted(answers.items()):
            if answer is not None and answer.cluster_id == self._cluster_id:
                told |= {NodeId(one.node): (one.peer_host, one.peer_port) for one in answer.nodes}
        # Nobody answers: what was heard before may still be true.
        strangers = {node: told[node] for node in sorted(told.keys() - known.keys() - {self._me})} or self.addresses
        if strangers != self.addresses:
            _log.info("heard of nodes that joined meanwhile", nodes=sorted(strangers))
            self.addresses = strangers
            self._heard()

    @property
    def _me(self) -> NodeId:
        return NodeId(getattr(self._request, "from").node)
