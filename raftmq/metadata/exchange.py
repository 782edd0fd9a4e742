"""Exchanges and their bindings, as the image has them. What they mean to a record: ``raftmq.exchanges``."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class ExchangeKind(IntEnum):
    """What an exchange looks at. The numbers are those of events, and of raftmq.v1.ExchangeKind. Frozen."""

    DIRECT = 1
    """Bindings whose routing key is the record's."""
    FANOUT = 2
    """Every binding."""
    TOPIC = 3
    """Bindings whose routing key, as a pattern of words, fits the record's."""
    HEADERS = 4
    """Bindings whose headers the record has: all of them, or any."""


@dataclass(frozen=True, slots=True)
class Binding:
    """From an exchange to a topic or to another exchange. Two that are equal are one."""

    topic: str = ""
    exchange: str = ""
    # Invariant: exactly one of the two is set.
    routing_key: str = ""
    headers: tuple[tuple[str, bytes], ...] = ()
    """By name, each name once. An empty value stands for any."""
    any: bool = False
    """Any of the headers is enough."""


@dataclass(frozen=True, slots=True)
class ExchangeRecord:
    name: str
    kind: ExchangeKind
    alternate: str = ""
    """The exchange that gets what no binding fits; empty: none."""
    bindings: tuple[Binding, ...] = ()
    """In the order in which they were added."""
