"""The public gRPC services of one node.

    client ──> server (listener) ──> interceptor (errors) ──> calls (route, in time) ──> service (one method)
                                                                │ one hop                    │
               other nodes' Peer.Forward <── forwarding <───────┘          ReplicaHost, ClusterView

``assemble`` puts the parts together; see README.md for the life of a call.
"""

from __future__ import annotations

from random import Random

from raftmq.broker.admin_service import AdminService
from raftmq.broker.broker_service import BrokerService, ServerFacts
from raftmq.broker.calls import Calls
from raftmq.broker.cluster import ClusterView, Host, Operations, Queues
from raftmq.broker.cluster_service import ClusterService
from raftmq.broker.dispatch import Entry, StreamEntry
from raftmq.broker.exchange_service import ExchangeService
from raftmq.broker.forwarding import Forwarder
from raftmq.broker.group_admin_service import GroupAdminService
from raftmq.broker.group_service import GroupService
from raftmq.broker.leaders import Leaders
from raftmq.broker.offsets import Offsets
from raftmq.broker.operation_service import OperationService
from raftmq.broker.publishing import Publishing, RoutingCounts
from raftmq.broker.queues.service import QueueService
from raftmq.broker.quota_service import QuotaService
from raftmq.broker.server import ClientServer
from raftmq.broker.view import View
from raftmq.coordinator.coordinator import Coordinator
from raftmq.ports import Clock, Store
from raftmq.rpc.interceptor import CallCounts


def assemble(
    host: Host,
    queues: Queues,
    cluster: ClusterView,
    operations: Operations,
    store: Store,
    forwarder: Forwarder,
    facts: ServerFacts,
    rng: Random,
    coordinator: Coordinator,
    clock: Clock,
    routed: RoutingCounts | None = None,
) -> Calls:
    """All methods of a node: for ``ClientServer``, and for what other nodes hand on."""
    view = View(host, cluster, queues)
    # A publish is made of calls of this same table.
    publishing = Publishing(view, lambda: calls, RoutingCounts() if routed is None else routed)
    groups = GroupService(view, coordinator)
    offsets = Offsets(view, Leaders(view, forwarder, rng))
    entries: dict[str, Entry | StreamEntry] = {
        **BrokerService(view, forwarder, facts, rng).entries(),
        **AdminService(view).entries(),
        **QuotaService(view).entries(),
        **ClusterService(view, store).entries(),
        **OperationService(view, operations).entries(),
        **QueueService(view).entries(),
        **ExchangeService(view, publishing).entries(),
        **groups.entries(),
        **GroupAdminService(view, groups, coordinator, offsets, clock).entries(),
    }
    calls = Calls(host, cluster, forwarder, entries, rng)
    return calls


__all__ = [
    "CallCounts",
    "Calls",
    "ClientServer",
    "ClusterView",
    "Forwarder",
    "Host",
    "Operations",
    "Queues",
    "RoutingCounts",
    "ServerFacts",
    "assemble",
]
