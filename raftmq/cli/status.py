"""The state of a cluster as a person wants it: one line of health, then nodes and partitions. No IO here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.text import Text

from raftmq.cli import output
from raftmq.client.types import (
    ClusterDescription,
    ClusterNodeDescription,
    ClusterVersion,
    PartitionDescription,
    ReplicaDescription,
    TopicDescription,
)


class Level(Enum):
    """HEALTHY: everything is there. DEGRADED: it serves, with less to spare. UNAVAILABLE: not all is served."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNAVAILABLE = "unavailable"


_COLOURS = {Level.HEALTHY: "green", Level.DEGRADED: "yellow", Level.UNAVAILABLE: "red"}


@dataclass(frozen=True, slots=True)
class Health:
    level: Level
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.level.value}: {'; '.join(self.reasons)}"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was asked at one moment.

    ``replicas``: what each node says of its own replicas; None for a node that did not answer.
    """

    cluster: ClusterDescription
    replicas: Mapping[int, tuple[ReplicaDescription, ...] | None]

    def lag(self, topic: str, partition: int, node: int) -> int | None:
        """Entries that a node is behind the partition's leader; None if no leader says."""
        for replicas in self.replicas.values():
            for replica in replicas or ():
                if replica.role == "leader" and (replica.topic, replica.partition) == (topic, partition):
                    return replica.lag.get(node, 0 if replica.leader == node else None)
        return None

    def returning(self, topic: str, partition: PartitionDescription, node: int) -> str:
        """What a node's replica has yet to do before it counts again; "" where it counts, or nobody can tell.

        "suspect": it may have lost what it had acknowledged, and votes and counts for nothing until it has everything;
        "catching up": it runs, and is not in sync; "away": its node does not answer.
        """
        known = self.replicas.get(node, ())
        if known is None:
            return "" if node in partition.in_sync else "away"
        if any(one.suspect for one in known if (one.topic, one.partition) == (topic, partition.partition)):
            return "suspect"
        return "catching up" if partition.in_sync and node not in partition.in_sync else ""


def health(snapshot: Snapshot) -> Health:
    cluster = snapshot.cluster
    partitions = [partition for topic in cluster.topics for partition in topic.partitions]
    fatal, lesser = list(_fatal(cluster)), list(_lesser(snapshot))
    if fatal:
        return Health(Level.UNAVAILABLE, tuple(fatal + lesser))
    if lesser:
        return Health(Level.DEGRADED, tuple(lesser))
    reasons = (
        f"{len(cluster.nodes)} nodes, controller on node {cluster.controller}",
        f"{len(partitions)} partitions led and in sync" if partitions else "no topics yet",
    )
    return Health(Level.HEALTHY, reasons)


def _fatal(cluster: ClusterDescription) -> Iterator[str]:
    if cluster.controller is None:
        yield "the controller has no leader"
    leaderless = [p for topic in cluster.topics for p in topic.partitions if p.leader is None]
    if leaderless:
        yield f"{_count(len(leaderless), 'partition')} without a leader"
    starved = [
        p
        for topic in cluster.topics
        for p in topic.partitions
        if p.leader is not None and p.in_sync and len(p.in_sync) < topic.min_in_sync_replicas
    ]
    if starved:
        yield f"{_count(len(starved), 'partition')} with too few replicas in sync to be written to"


def _lesser(snapshot: Snapshot) -> Iterator[str]:
    cluster = snapshot.cluster
    away = [n.info.node_id for n in cluster.nodes if n.info.fenced or snapshot.replicas.get(n.info.node_id) is None]
    if away:
        yield f"{'node' if len(away) == 1 else 'nodes'} {', '.join(map(str, away))} away"
    short = [n.info.node_id for n in cluster.nodes if n.disk in ("low", "full")]
    if short:
        yield f"little room on the disk of node {', '.join(map(str, short))}: no records are taken there"
    behind = [p for topic in cluster.topics for p in topic.partitions if p.in_sync and set(p.replicas) - set(p.in_sync)]
    if behind:
        yield f"{_count(len(behind), 'partition')} with a replica out of sync"
    suspect = sorted({node for node, replicas in snapshot.replicas.items() for r in replicas or () if r.suspect})
    if suspect:
        yield f"suspect (may have lost synced data): node {', '.join(map(str, suspect))}"


def render(snapshot: Snapshot) -> RenderableType:
    cluster, state = snapshot.cluster, health(snapshot)
    parts: list[RenderableType] = [Text(str(state), style=f"bold {_COLOURS[state.level]}")]
    if cluster.version is not None:
        parts.append(Text(version_line(cluster.version, cluster.nodes)))
    parts.append(Text())
    nodes = (
        (
            node.info.node_id,
            f"{node.info.host}:{node.info.port}",
            node.info.rack or "-",
            _node_state(snapshot, node),
            "leader" if node.info.node_id == cluster.controller else "voter" if node.controller_voter else "learner",
            node.led_partitions,
            node.replicas,
            node.boot_count,
            _disk(node.disk),
        )
        for node in cluster.nodes
    )
    parts.append(
        output.table(
            f"cluster {cluster.name}",
            ("#node", "clients", "rack", "state", "controller", "#leads", "#replicas", "#boot", "disk"),
            nodes,
        )
    )
    if cluster.topics:
        parts.append(Text())
        rows = (partition_row(topic, partition, snapshot) for topic in cluster.topics for partition in topic.partitions)
        parts.append(output.table("partitions", PARTITION_COLUMNS, rows))
    return Group(*parts)


def version_line(version: ClusterVersion, nodes: Sequence[ClusterNodeDescription]) -> str:
    """What the cluster may use by now, and for whom the rest waits."""
    known = {node.info.node_id: node.max_cluster_version for node in nodes}
    waits = [
        *(f"node {number} (understands {known[number]})" for number in version.behind if number in known),
        *(f"node {number} (has yet to register)" for number in version.unheard),
    ]
    line = f"cluster version {version.version}"
    if version.newest > version.version:
        return f"{line}; version {version.newest} waits for {', '.join(waits) or 'the controller'}"
    return f"{line}; the next one would wait for {', '.join(waits)}" if waits else line


PARTITION_COLUMNS = ("topic", "#partition", "#leader", "#epoch", "replicas", "in sync", "coming back", "lag (entries)")


def partition_row(topic: TopicDescription, partition: PartitionDescription, snapshot: Snapshot) -> tuple[object, ...]:
    returning = [
        (node, word) for node in partition.replicas if (word := snapshot.returning(topic.name, partition, node))
    ]
    lags = ((node, snapshot.lag(topic.name, partition.partition, node)) for node in partition.replicas)
    return (
        escape(topic.name),
        partition.partition,
        "[red]none[/]" if partition.leader is None else partition.leader,
        partition.leader_epoch,
        _numbers(partition.replicas),
        _numbers(tuple(node for node in partition.in_sync if node not in dict(returning))) or "?",
        ", ".join(f"[yellow]{node}: {word}[/]" for node, word in returning) or "-",
        ", ".join(f"{node}: {lag:,}" for node, lag in lags if lag) or "0",
    )


def as_json(snapshot: Snapshot) -> dict[str, object]:
    state = health(snapshot)
    return {
        "health": state.level.value,
        "reasons": list(state.reasons),
        **asdict(snapshot.cluster),
        "replicas": {
            str(node): [
                {
                    **asdict(replica),
                    "lag": {str(k): v for k, v in replica.lag.items()},
                    "chain_hash": replica.chain_hash.hex(),
                }
                for replica in replicas or ()
            ]
            for node, replicas in snapshot.replicas.items()
        },
    }


def _node_state(snapshot: Snapshot, node: ClusterNodeDescription) -> str:
    if snapshot.replicas.get(node.info.node_id) is None:
        return "[red]no answer[/]"
    if node.leaving:
        return "[yellow]drained[/]"
    return "[yellow]fenced[/]" if node.info.fenced else "[green]up[/]"


def _disk(level: str) -> str:
    return {"low": "[yellow]low[/]", "full": "[red]full[/]"}.get(level, level or "?")


def _numbers(values: tuple[int, ...]) -> str:
    return " ".join(map(str, values))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
