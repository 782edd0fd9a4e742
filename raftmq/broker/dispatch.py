"""The table of methods: one entry for every method of the public services, by its full name.

gRPC and ``Peer.Forward`` both call through it. It is built from the descriptors, so a method of a ``.proto`` that
nobody implements stops the node at its start instead of surprising a client.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import FileDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from raftmq.broker.deadlines import CallContext
from raftmq.ids import GroupId
from raftmq.v1 import admin_pb2, broker_pb2, cluster_pb2

FILES: tuple[FileDescriptor, ...] = (broker_pb2.DESCRIPTOR, admin_pb2.DESCRIPTOR, cluster_pb2.DESCRIPTOR)


@dataclass(frozen=True, slots=True)
class Target:
    """Whose leader must answer a request."""

    group: GroupId
    limit_ms: int
    """How long the call may take at most, by what the request itself says."""
    no_forward: bool = False
    amended: bool = False
    """The request was completed (its partition chosen): the next node must get it as it is now."""


@dataclass(frozen=True, slots=True)
class Entry:
    """How one method is answered. Requests and responses are its own message classes: hence ``Any``."""

    handler: Callable[[Any, CallContext], Awaitable[Any]]
    reads: bool
    """It changes nothing: it may be tried again whatever became of the first try."""
    target: Callable[[Any], Target] | None = None
    """Checks what any node can check of a request, and says whose leader answers it. None: every node can."""


@dataclass(frozen=True, slots=True)
class Method:
    """A row of the table."""

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


def build_table(entries: Mapping[str, Entry]) -> dict[str, Method]:
    """The table for `entries`, given by ``Service.Method`` ("Broker.Produce").

    Raises ValueError where a method has no entry, or an entry no method.
    """
    table: dict[str, Method] = {}
    missing: list[str] = []
    left = dict(entries)
    for service in services():
        for method in service.methods:
            entry = left.pop(f"{service.name}.{method.name}", None)
            name = full_name(method)
            if entry is None:
                missing.append(name)
            else:
                table[name] = Method(
                    name, GetMessageClass(method.input_type), GetMessageClass(method.output_type), entry
                )
    if missing or left:
        raise ValueError(f"methods without an entry: {missing}; entries without a method: {sorted(left)}")
    return table
