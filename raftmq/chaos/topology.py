"""Where everything listens: nodes, and a proxy for every directed link between them and to each from the clients."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

from raftmq.chaos.experiment import ClusterPlan
from raftmq.chaos.proxies import HOST, free_ports
from raftmq.config import Address, ClusterConfig, Defaults, Limits, NodeEntry, Timeouts, majority
from raftmq.ids import NodeId


def peer_link(source: int, target: int) -> str:
    """Name of the proxy through which `source` dials `target`."""
    return f"{source}-{target}"


def client_link(node: int) -> str:
    """Name of the proxy through which clients dial `node`."""
    return f"clients-{node}"


@dataclass(frozen=True, slots=True)
class Topology:
    config: ClusterConfig
    routes: dict[str, tuple[int, int]]
    """Of each proxy: the port that it listens on, and the port that it goes to. Empty without proxies."""

    @property
    def nodes(self) -> tuple[NodeId, ...]:
        return tuple(NodeId(node.id) for node in self.config.nodes)

    def direct(self, host: str, port: int) -> tuple[str, int]:
        """Where a node is reached past its proxy: for those who watch, and for the last reading."""
        for listen, target in self.routes.values():
            if port == listen:
                return host, target
        return host, port

    @property
    def direct_addresses(self) -> str:
        return ",".join(f"{HOST}:{node.client_port}" for node in self.config.nodes)


def build(plan: ClusterPlan, directory: Path, *, proxied: bool) -> Topology:
    """Nodes 1 to n with free ports, their data in `directory`."""
    numbers = range(1, plan.nodes + 1)
    names = [peer_link(i, j) for i, j in permutations(numbers, 2)] + [client_link(i) for i in numbers]
    ports = free_ports(3 * plan.nodes + (len(names) if proxied else 0))
    own = {i: (ports.pop(), ports.pop(), ports.pop()) for i in numbers}
    routes: dict[str, tuple[int, int]] = {}
    if proxied:
        routes = {peer_link(i, j): (ports.pop(), own[j][1]) for i, j in permutations(numbers, 2)}
        routes |= {client_link(i): (ports.pop(), own[i][0]) for i in numbers}
    nodes = tuple(
        NodeEntry(
            id=i,
            host=HOST,
            client_port=own[i][0],
            peer_port=own[i][1],
            http_port=own[i][2],
            data=directory.resolve() / f"n{i}",
            rack=f"rack-{i}",
            advertised_client_port=routes[client_link(i)][0] if proxied else None,
            peer_overrides={j: Address(HOST, routes[peer_link(i, j)][0]) for j in numbers if j != i and proxied},
        )
        for i in numbers
    )
    replicas = min(plan.replicas, plan.nodes)
    config = ClusterConfig(
        cluster="chaos",
        nodes=nodes,
        defaults=Defaults(
            partitions=plan.partitions,
            replication_factor=replicas,
            min_in_sync_replicas=plan.min_in_sync or majority(replicas),
        ),
        limits=Limits()
        if plan.snapshot_bytes_per_s is None
        else Limits(snapshot_bytes_per_s=plan.snapshot_bytes_per_s),
        timeouts=Timeouts(
            heartbeat_interval_ms=plan.heartbeat_interval_ms,
            election_timeout_ms=plan.election_timeout_ms,
            session_timeout_ms=plan.session_timeout_ms,
            shutdown_timeout_ms=plan.shutdown_timeout_ms,
        ),
    )
    return Topology(config, routes)
