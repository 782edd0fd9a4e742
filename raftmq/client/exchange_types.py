"""Value objects of exchanges, none of it protobuf; see ``types``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from raftmq.client.types import BatchReceipt
from raftmq.errors import RaftmqError

ExchangeKindName = Literal["direct", "fanout", "topic", "headers"]
HeaderMatchName = Literal["all", "any"]


@dataclass(frozen=True, slots=True)
class BindingDescription:
    """Leads either to a topic or to an exchange; the other one is empty."""

    topic: str
    exchange: str
    routing_key: str
    headers: tuple[tuple[str, bytes], ...]
    """An empty value stands for any."""
    match: HeaderMatchName


@dataclass(frozen=True, slots=True)
class ExchangeDescription:
    name: str
    kind: ExchangeKindName
    alternate: str
    """Gets what no binding fits; empty: none."""
    bindings: tuple[BindingDescription, ...]
    """In the order in which they were added."""


@dataclass(frozen=True, slots=True)
class RouteStep:
    """An exchange on the way."""

    exchange: str
    bindings: tuple[BindingDescription, ...]
    """Those that fit."""
    alternate: str
    """Where it goes on because none fits; empty: nowhere, or not needed."""


@dataclass(frozen=True, slots=True)
class RouteDescription:
    """Where a record would go, and why."""

    topics: tuple[str, ...]
    steps: tuple[RouteStep, ...]


@dataclass(frozen=True, slots=True)
class TopicReceipt:
    """What became of a publish in one topic."""

    topic: str
    receipts: tuple[BatchReceipt, ...]
    """Of the partitions that took their part, by number."""
    error: RaftmqError | None
    """Why the topic did not take all of it, with the outcome; None: it did."""


@dataclass(frozen=True, slots=True)
class Published:
    """What became of a publish. Without topics: it was unroutable."""

    message_id: str
    """Under it the same publish may be repeated safely, for as long as the topics remember it."""
    topics: tuple[TopicReceipt, ...]
    """In the order in which they were reached."""

    @property
    def failed(self) -> tuple[TopicReceipt, ...]:
        """Those that did not take all of it."""
        return tuple(one for one in self.topics if one.error is not None)

    @property
    def routed(self) -> bool:
        return bool(self.topics)
