"""What replaying needs: a check of what is replayed, and mappings that are never changed in place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeVar

from raftmq.records.poison import PoisonEntry

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")


def fits(condition: bool, event: object) -> None:
    """A committed event that does not fit means that it was decided over another image: this node must not go on."""
    if not condition:
        raise unfit(event)


def unfit(event: object) -> PoisonEntry:
    return PoisonEntry(f"does not fit what came before: {event}")


def with_changes(mapping: Mapping[KeyT, ValueT], changes: Mapping[KeyT, ValueT]) -> Mapping[KeyT, ValueT]:
    return MappingProxyType({**mapping, **changes})


def without(mapping: Mapping[KeyT, ValueT], gone: Callable[[KeyT], bool]) -> Mapping[KeyT, ValueT]:
    return MappingProxyType({key: value for key, value in mapping.items() if not gone(key)})
