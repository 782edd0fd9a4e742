"""The table of methods: one entry for every method of the public services, by its full name.

gRPC and ``Peer.Forward`` both call through it. It is built from the descriptors, so a method of a ``.proto`` that
nobody implements stops the node at its start instead of surprising a client.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.descriptor import FileDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from raftmq.broker.deadlines import CallContext
from raftmq.ids import GroupId
from raftmq.v1 import admin_pb2, broker_pb2, cluster_pb2, exchanges_pb2, groups_pb2, queue_pb2

FILES: tuple[FileDescriptor, ...] = (
    broker_pb2.DESCRIPTOR, admin_pb2.DESCRIPTOR, cluster_pb2.DESCRIPTOR, exchanges_pb2.DESCRIPTOR,
    queue_pb2.DESCRIPTOR, groups_pb2.DESCRIPTOR,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Target:
    """Whose leader must answer a request."""

    group: GroupId
    limit_ms: int
    """How long the call may take at most, by what the request itself says."""
    no_forward: bool = False
    amended: bool = False
    """The request was completed (its partition chosen): the next node must get it as it is now."""
    any_replica: bool = False
    """A replica that follows may answer too, if it is in sync."""
    parts: tuple[Part, ...] = ()
    """The request is for several leaders: what it falls into, each with a target of its own. Empty: it is not."""
    spread: Callable[[Any, CallContext], Awaitable[Any]] | None = None
    """The request is for whichever leader can answer: given the node's calls (``streaming.Routed``), it asks them.
    None: it is not."""


@dataclass(frozen=True, slots=True)
class Part:
    """A request of the same method, for one leader. ``about``: what ``Entry.join`` wants to know of it."""

    request: Any
    about: Any


Settle = Callable[[Callable[[], Any]], None]
"""Takes, once, what makes the response or raises its RaftmqError. It is told in the middle of something else, and may
not make it there."""


@dataclass(frozen=True, slots=True)
class Entry:
    """How one method is answered. Requests and responses are its own message classes: hence ``Any``."""

    handler: Callable[[Any, CallContext], Awaitable[Any]]
    reads: bool
    """It changes nothing: it may be tried again whatever became of the first try."""
    target: Callable[[Any], Target] | None = None
    """Checks what any node can check of a request, and says whose leader answers it. None: every node can."""
    begin: Callable[[Any, CallContext, Settle], bool] | None = None
    """Answers a request that this node can answer, without a task that waits: True if it does. Raises RaftmqError."""
    join: Callable[[Sequence[tuple[Part, Any]]], Any] | None = None
    """Makes one response of those to the parts: each with its response or its RaftmqError."""


@dataclass(frozen=True, slots=True)
class StreamEntry:
    """How one method is answered whose messages come and go for as long as both sides like.

    ``handler`` is given the node's calls (``streaming.Routed``), through which each message is routed by itself, and
    the stream (``streaming.Stream``). Streams are never handed on to other nodes; what they ask for is.
    """

    handler: Callable[[Any, Any], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class StreamMethod:
    """A row of the table: both sides stream."""

    name: str
    request_class: type[Message]
    entry: StreamEntry


@dataclass(frozen=True, slots=True)
class Method:
    """A row of the table: one request, one response."""

    name: str
    """As on the wire: ``/raftmq.v1.Broker/Produce``."""
    request_class: type[Message]
    response_class: type[Message]
    entry: Entry


def services() -> Iterator[ServiceDescriptor]:
    """Every public service, in the order of the files."""
    for file in FILES:
        yield from file.services_by_name.values()


def full_name(method: MethodDescriptor) -> str:
    """The name of `method` on the wire."""
    return f"/{method.containing_service.full_name}/{method.name}"


@dataclass(frozen=True, slots=True)
class Table:
    """Every method by its name on the wire."""

    methods: dict[str, Method] = field(default_factory=dict)
    streams: dict[str, StreamMethod] = field(default_factory=dict)

    def add(self, method: MethodDescriptor, entry: Entry | StreamEntry) -> None:
        """Raises ValueError where `entry` is not of the kind that `method` is."""
        name, request_class = full_name(method), GetMessageClass(method.input_type)
        streaming = (method.client_streaming, method.server_streaming)
        if isinstance(entry, Entry) and streaming == (False, False):
            self.methods[name] = Method(name, request_class, GetMessageClass(method.output_type), entry)
        elif isinstance(entry, StreamEntry) and streaming == (True, True):
            self.streams[name] = StreamMethod(name, request_class, entry)
        else:
            raise ValueError(f"{name} streams differently from its entry")


def build_table(entries: Mapping[str, Entry | StreamEntry]) -> Table:
    """The table for `entries`, given by ``Service.Method`` ("Broker.Produce").

    Raises ValueError where a method has no entry, or an entry no method, or one of another kind.
    """
    table = Table()
    missing: list[str] = []
    left = dict(entries)
    for service in services():
        for method in service.methods:
            entry = left.pop(f"{service.name}.{method.name}", None)
            if entry is None:
                missing.append(full_name(method))
            else:
                table.add(method, entry)
    if missing or left:
        raise ValueError(f"methods without an entry: {missing}; entries without a method: {sorted(left)}")
    return table
