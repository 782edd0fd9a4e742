"""What cluster.yml says: ``ClusterConfig`` is the same on every node, ``NodeConfig`` is one node's view.

Times are milliseconds and sizes are bytes, and the last word of every name says which. Everything is frozen.

Two environment variables exist, both read by the command line only: ``RAFTMQ_CONFIG`` (path of the file) and
``RAFTMQ_BOOTSTRAP`` (addresses to ask instead of the file's). No variable overrides a key of the file: what a
cluster does must stand in one place.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationInfo,
    field_validator,
    model_validator,
)

from raftmq.ids import NodeId

CONFIG_VARIABLE = "RAFTMQ_CONFIG"
BOOTSTRAP_VARIABLE = "RAFTMQ_BOOTSTRAP"

CONTROLLER_VOTERS_MAX = 5
"""The first nodes of the file vote on metadata; the others learn it. More voters would only be slower."""

KIB = 1024
MIB = 1024 * KIB
MESSAGE_OVERHEAD_BYTES = 64 * KIB
MESSAGE_BYTES_MAX = 64 * MIB
"""What ``limits.max_message_bytes`` may be at most."""
"""What a request may need beside its batch: names, header, framing."""


class ConfigError(Exception):
    """The file cannot be used. ``problems``: a line for each cause, with its path in the file first."""

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.source = source
        self.problems = tuple(problems)
        super().__init__("\n  ".join([f"{source} cannot be used:", *self.problems]))


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP address. Prints as ``host:port``, with brackets around an IPv6 host."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``host:port`` or ``[ipv6]:port``. Raises ValueError with a text for people."""
        host, separator, port = text.strip().rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ValueError(f"'{text}' has an IPv6 host without brackets; write [{host}]:{port}")
        if not separator or not host or not port.isdecimal() or not 1 <= int(port) <= 65535:
            raise ValueError(f"'{text}' is not HOST:PORT")
        return cls(host, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _parse_address(value: object) -> object:
    return Address.parse(value) if isinstance(value, str) else value


def _check_host(host: str) -> str:
    if not host or any(not "!" <= c <= "~" or c in "/[]" for c in host):
        raise ValueError(f"'{host}' is not a host name or IP address")
    return host


def _check_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", name):
        raise ValueError(f"'{name}' is no name: 1 to 63 of a-z, A-Z, 0-9, '.', '_', '-', no sign first")
    return name


def _is_wildcard(host: str) -> bool:
    return host in ("0.0.0.0", "::", "*")  # noqa: S104  the name is recognised, nothing is bound here


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


Host = Annotated[str, BeforeValidator(lambda value: _check_host(value) if isinstance(value, str) else value)]
Port = Annotated[int, Field(ge=1, le=65535)]
AddressText = Annotated[Address, BeforeValidator(_parse_address), PlainSerializer(str)]
Milliseconds = Annotated[int, Field(ge=1, le=24 * 3600 * 1000)]
Name = Annotated[str, AfterValidator(_check_name)]


class Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class NodeEntry(Model):
    """One element of ``nodes``."""

    id: Annotated[int, Field(ge=1, le=2**31 - 1)]
    host: Host = "127.0.0.1"
    """Where the other nodes and the clients reach this node; also bound, unless ``bind`` is given."""
    bind: Host | None = None
    client_port: Port
    peer_port: Port
    http_port: Port
    data: Annotated[Path, Field(strict=False), PlainSerializer(str)]
    """Directory of this node alone. Relative to the file; absolute once loaded."""
    rack: str = ""
    """Replicas of a partition are spread over racks first."""
    advertised_client_host: Host | None = None
    advertised_client_port: Port | None = None
    peer_overrides: dict[int, AddressText] = Field(default_factory=dict)
    """Where this node dials another one instead of at ``host:peer_port``: experiments put a proxy there."""

    @field_validator("data")
    @classmethod
    def _resolve_data(cls, value: Path, info: ValidationInfo) -> Path:
        if value == Path():
            raise ValueError("names no directory")
        base: Path = (info.context or {}).get("base", Path.cwd())
        return (base / value.expanduser()).resolve()

    @field_validator("host", "advertised_client_host")
    @classmethod
    def _refuse_wildcard(cls, value: str | None) -> str | None:
        if value is not None and _is_wildcard(value):
            raise ValueError(f"{value} is no address that others can dial; put it under 'bind'")
        return value

    @property
    def bind_host(self) -> str:
        return self.bind or self.host


class Defaults(Model):
    """Of topics that do not say otherwise."""

    partitions: Annotated[int, Field(ge=1, le=1024)] = 3
    replication_factor: Annotated[int, Field(ge=1, le=7)] | None = None
    """None: 3, or the number of nodes if that is less."""
    min_in_sync_replicas: Annotated[int, Field(ge=1, le=7)] | None = None  # the majority


class Timeouts(Model):
    heartbeat_interval_ms: Milliseconds = 100
    election_timeout_ms: Milliseconds = 1000
    """A follower that hears nothing stands for election after once to twice this time, drawn at random."""
    replica_lag_max_ms: Milliseconds = 2000
    """A replica stays in sync while it has what the leader's log ended with so long ago."""
    session_timeout_ms: Milliseconds = 6000
    """A node that the controller has not heard of for so long is fenced: no new replicas or leaders."""
    produce_timeout_ms: Milliseconds = 30_000
    """How long a produce call that names no time may wait for its acknowledgement."""
    offsets_retention_ms: Annotated[int, Field(ge=0)] = 7 * 86_400_000  # of groups without members; 0: for ever
    shutdown_timeout_ms: Milliseconds = 10_000
    """How long a node that stops may take to hand over its leaderships and answer what is under way."""


class Limits(Model):
    max_batch_bytes: Annotated[int, Field(ge=KIB, le=8 * MIB)] = MIB
    """Largest batch of a topic that does not say otherwise."""
    max_message_bytes: Annotated[int, Field(ge=64 * KIB, le=MESSAGE_BYTES_MAX)] = 16 * MIB
    """Largest gRPC message that a node takes from a client."""
    memory_bytes: Annotated[int, Field(ge=0)] = 0
    """What a process may take in all; calls that would need more are answered MEMORY_PRESSURE. 0: no limit."""
    produce_memory_bytes: Annotated[int, Field(ge=MIB)] = 256 * MIB
    """Batches that wait on a node to be acknowledged; beyond it produce is answered OVERLOADED."""
    peer_queue_bytes: Annotated[int, Field(ge=MIB)] = 32 * MIB
    """Frames that wait for one other node; beyond it they are dropped and sent anew from the log."""
    snapshot_bytes_per_s: Annotated[int, Field(ge=KIB)] = 64 * MIB
    """How fast a node sends a snapshot to another one that is behind every log."""
    tail_cache_bytes: Annotated[int, Field(ge=0)] = 64 * MIB
    """The newest entries of all logs, kept in memory for followers and consumers that keep up."""
    free_space_percent: Annotated[int, Field(ge=0, le=90)] = 5
    free_space_bytes: Annotated[int, Field(ge=0)] = 1024 * MIB
    """With less room on the file system of its data than the smaller of the two, a node takes no records; 0: never."""
    queue_held_bytes: Annotated[int, Field(ge=0)] = 64 * MIB  # of a partition: what queues need of a trimmed log
    max_topics: Annotated[int, Field(ge=1)] = 10_000  # of the cluster; one more is refused
    max_partitions: Annotated[int, Field(ge=1)] = 20_000  # of all topics together


class ClusterConfig(Model):
    """What cluster.yml says, checked. Build it with ``load`` or ``parse``."""

    cluster: Name
    nodes: Annotated[tuple[NodeEntry, ...], Field(max_length=100, strict=False)]
    defaults: Defaults = Defaults()
    timeouts: Timeouts = Timeouts()
    limits: Limits = Limits()
    reflection: bool = False
    """Describe the API to anybody who asks at the client port (gRPC reflection)."""
    insecure: bool = False
    """There is no TLS and no login yet: listening on more than loopback takes this word."""

    @field_validator("defaults", "timeouts", "limits", mode="before")
    @classmethod
    def _accept_empty_section(cls, value: object) -> object:
        """In YAML a section whose lines are all commented out is null."""
        return {} if value is None else value

    @model_validator(mode="after")
    def _check_relations(self) -> Self:
        if problems := list(_problems(self)):
            raise ValueError("\n".join(problems))
        return self

    @property
    def replication_factor(self) -> int:
        """Of topics that do not say otherwise."""
        return self.defaults.replication_factor or min(3, len(self.nodes))

    @property
    def min_in_sync_replicas(self) -> int:
        """Of topics that say neither this nor another replication factor."""
        return self.defaults.min_in_sync_replicas or majority(self.replication_factor)

    @property
    def initial_voters(self) -> tuple[NodeId, ...]:
        """Nodes that form the cluster and vote on its metadata: the first of the file, by id."""
        return tuple(NodeId(node.id) for node in self._seed())

    @property
    def seed_digest(self) -> bytes:
        """SHA-256 over the cluster's name and the initial voters' ids and peer addresses.

        Nodes form a cluster only with nodes that have the same one, so neither another cluster's file nor a
        stale copy of this one can take part. Keys that may change later are not in it.
        """
        voters = [[node.id, node.host, node.peer_port] for node in self._seed()]
        text = json.dumps([self.cluster, voters], separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode("ascii")).digest()

    def node(self, node_id: int) -> NodeConfig:
        """The view of one node. Raises ConfigError if the file has no such node."""
        for entry in self.nodes:
            if entry.id == node_id:
                return NodeConfig(self, entry)
        known = ", ".join(str(entry.id) for entry in self.nodes)
        raise ConfigError("cluster.yml", [f"nodes: there is no node {node_id}; there are {known}"])

    def _seed(self) -> list[NodeEntry]:
        return sorted(self.nodes[:CONTROLLER_VOTERS_MAX], key=lambda node: node.id)


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """The cluster as one of its nodes sees it: what to bind, what to tell others, whom to dial."""

    cluster: ClusterConfig
    entry: NodeEntry

    @property
    def node_id(self) -> NodeId:
        return NodeId(self.entry.id)

    @property
    def rack(self) -> str:
        return self.entry.rack

    @property
    def data_directory(self) -> Path:
        """Absolute if the file was loaded."""
        return self.entry.data

    @property
    def client_bind(self) -> Address:
        return Address(self.entry.bind_host, self.entry.client_port)

    @property
    def peer_bind(self) -> Address:
        return Address(self.entry.bind_host, self.entry.peer_port)

    @property
    def http_bind(self) -> Address:
        return Address(self.entry.bind_host, self.entry.http_port)

    @property
    def client_address(self) -> Address:
        """What this node tells clients to dial."""
        return Address(
            self.entry.advertised_client_host or self.entry.host,
            self.entry.advertised_client_port or self.entry.client_port,
        )

    @property
    def peer_address(self) -> Address:
        """Where other nodes reach this one, unless they have an override for it."""
        return Address(self.entry.host, self.entry.peer_port)

    def dial(self, node_id: NodeId) -> Address:
        """Where this node dials `node_id`. Raises ConfigError if the file has no such node."""
        peer = self.cluster.node(node_id)
        return self.entry.peer_overrides.get(node_id, peer.peer_address)

    @property
    def peers(self) -> tuple[NodeId, ...]:
        """All other nodes, by id."""
        return tuple(NodeId(i) for i in sorted(node.id for node in self.cluster.nodes) if i != self.entry.id)


def majority(voters: int) -> int:
    """The least number of `voters` that any two of which share a member."""
    return voters // 2 + 1


# -- relations between keys: one line a problem, beginning with its path in the file


def _problems(config: ClusterConfig) -> Iterator[str]:
    if not config.nodes:
        yield "nodes: there must be at least one"
        return
    yield from _duplicates(config.nodes)
    yield from _unreachable(config)
    yield from _impossible_defaults(config)
    yield from _unsafe_times(config.timeouts)
    room = config.limits.max_batch_bytes + MESSAGE_OVERHEAD_BYTES
    if config.limits.max_message_bytes < room:
        yield (
            f"limits.max_message_bytes: {config.limits.max_message_bytes} cannot carry a batch of "
            f"limits.max_batch_bytes; it must be at least {room}"
        )


def _duplicates(nodes: Sequence[NodeEntry]) -> Iterator[str]:
    """Nodes on different hosts may well have the same ports and directories."""
    ids: set[int] = set()
    first_uses: dict[tuple[str, int | Path], tuple[int, str]] = {}
    for position, node in enumerate(nodes):
        if node.id in ids:
            yield f"nodes[{position}].id: {node.id} is already used by another node"
        ids.add(node.id)
        for key in ("client_port", "peer_port", "http_port", "data"):
            value = getattr(node, key)
            first = first_uses.setdefault((node.host, value), (position, key))
            if first != (position, key):
                yield f"nodes[{position}].{key}: {value} is already used by node {nodes[first[0]].id}"


def _unreachable(config: ClusterConfig) -> Iterator[str]:
    ids = {node.id for node in config.nodes}
    for position, node in enumerate(config.nodes):
        for target in sorted(node.peer_overrides):
            if target not in ids or target == node.id:
                yield f"nodes[{position}].peer_overrides.{target}: there is no other node {target}"
        if not config.insecure and not _is_loopback(node.bind_host):
            key = "bind" if node.bind else "host"
            yield (
                f"nodes[{position}].{key}: {node.bind_host} is open to the network, and there is no TLS or "
                "login yet; if the network itself is trusted, say so with 'insecure: true'"
            )


def _impossible_defaults(config: ClusterConfig) -> Iterator[str]:
    replicas = config.replication_factor
    if replicas > len(config.nodes):
        nodes = len(config.nodes)
        yield f"defaults.replication_factor: {replicas} replicas need as many nodes; there are {nodes}"
    if not majority(replicas) <= config.min_in_sync_replicas <= replicas:
        yield (
            f"defaults.min_in_sync_replicas: {config.min_in_sync_replicas} must lie between the majority "
            f"({majority(replicas)}) and the number of replicas ({replicas})"
        )


def _unsafe_times(timeouts: Timeouts) -> Iterator[str]:
    least = 10 * timeouts.heartbeat_interval_ms
    if timeouts.election_timeout_ms < least:
        yield (
            f"timeouts.election_timeout_ms: {timeouts.election_timeout_ms} must be at least ten times "
            f"heartbeat_interval_ms ({least}), or lost heartbeats will cost leaders"
        )
    if timeouts.session_timeout_ms < 2 * timeouts.election_timeout_ms:
        yield (
            f"timeouts.session_timeout_ms: {timeouts.session_timeout_ms} must be at least twice "
            f"election_timeout_ms ({2 * timeouts.election_timeout_ms}), or every election will fence nodes"
        )
