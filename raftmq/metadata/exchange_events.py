"""The events of exchanges, their bytes, and what replaying makes of them. Part of ``events``, where the rules stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from raftmq.internal.v1 import storage_pb2
from raftmq.metadata.exchange import Binding, ExchangeKind, ExchangeRecord
from raftmq.metadata.fitting import fits, unfit, with_changes, without
from raftmq.records.poison import PoisonEntry


@dataclass(frozen=True, slots=True)
class ExchangeDeclared:
    """There is a new exchange, without bindings."""

    name: str
    kind: ExchangeKind
    alternate: str
    """Empty: none."""


@dataclass(frozen=True, slots=True)
class ExchangeDeleted:
    """Bindings that lead to it end with it; where it is an alternate, there is none any more."""

    name: str


@dataclass(frozen=True, slots=True)
class BindingAdded:
    exchange: str
    binding: Binding


@dataclass(frozen=True, slots=True)
class BindingRemoved:
    exchange: str
    binding: Binding


ExchangeEvent = ExchangeDeclared | ExchangeDeleted | BindingAdded | BindingRemoved
Exchanges = Mapping[str, ExchangeRecord]


def replay_exchange(exchanges: Exchanges, topics: Mapping[str, object], event: ExchangeEvent) -> Exchanges:
    """The exchanges after `event`. Raises PoisonEntry where it does not fit.

    Exchanges that it does not touch stay the same objects: routers compile what is new only.
    """
    match event:
        case ExchangeDeclared(name, kind, alternate):
            fits(name not in exchanges and (not alternate or alternate in exchanges), event)
            return with_changes(exchanges, {name: ExchangeRecord(name, kind, alternate)})
        case ExchangeDeleted(name):
            fits(name in exchanges, event)
            left = without(exchanges, lambda other: other == name)
            touched = {other: _without_exchange(known, name) for other, known in left.items() if leads_to(known, name)}
            return with_changes(left, touched)
        case BindingAdded(exchange, binding):
            known = _known(exchanges, exchange, event)
            fits(binding not in known.bindings and bool(binding.topic) != bool(binding.exchange), event)
            fits((binding.topic in topics) if binding.topic else (binding.exchange in exchanges), event)
            return with_changes(exchanges, {exchange: replace(known, bindings=(*known.bindings, binding))})
        case BindingRemoved(exchange, binding):
            known = _known(exchanges, exchange, event)
            fits(binding in known.bindings, event)
            kept = tuple(one for one in known.bindings if one != binding)
            return with_changes(exchanges, {exchange: replace(known, bindings=kept)})


def leads_to(exchange: ExchangeRecord, name: str) -> bool:
    """Whether `exchange` is bound to the exchange `name`, or has it as its alternate."""
    return exchange.alternate == name or any(one.exchange == name for one in exchange.bindings)


def without_topic(exchanges: Exchanges, topic: str) -> Exchanges:
    """The exchanges after the end of a topic: nothing is bound to it any more."""
    touched = {
        name: replace(known, bindings=tuple(one for one in known.bindings if one.topic != topic))
        for name, known in exchanges.items()
        if any(one.topic == topic for one in known.bindings)
    }
    return with_changes(exchanges, touched) if touched else exchanges


def _without_exchange(exchange: ExchangeRecord, name: str) -> ExchangeRecord:
    kept = tuple(one for one in exchange.bindings if one.exchange != name)
    return replace(exchange, bindings=kept, alternate="" if exchange.alternate == name else exchange.alternate)


def _known(exchanges: Exchanges, name: str, event: ExchangeEvent) -> ExchangeRecord:
    known = exchanges.get(name)
    if known is None:
        raise unfit(event)
    return known


# -- bytes -------------------------------------------------------------------------------------------------------------


def exchange_to_proto(event: ExchangeEvent) -> storage_pb2.MetadataEvent:
    match event:
        case ExchangeDeclared(name, kind, alternate):
            declared = storage_pb2.ExchangeDeclared(name=name, kind=kind, alternate=alternate)
            return storage_pb2.MetadataEvent(exchange_declared=declared)
        case ExchangeDeleted(name):
            return storage_pb2.MetadataEvent(exchange_deleted=storage_pb2.ExchangeDeleted(name=name))
        case BindingAdded(exchange, binding):
            added = storage_pb2.BindingAdded(exchange=exchange, binding=_binding_to_proto(binding))
            return storage_pb2.MetadataEvent(binding_added=added)
        case BindingRemoved(exchange, binding):
            removed = storage_pb2.BindingRemoved(exchange=exchange, binding=_binding_to_proto(binding))
            return storage_pb2.MetadataEvent(binding_removed=removed)


def exchange_from_proto(message: storage_pb2.MetadataEvent) -> ExchangeEvent:
    """Raises PoisonEntry where this version does not understand all of it."""
    match message.WhichOneof("event"):
        case "exchange_declared":
            declared = message.exchange_declared
            return ExchangeDeclared(declared.name, _kind(declared.kind), declared.alternate)
        case "exchange_deleted":
            return ExchangeDeleted(message.exchange_deleted.name)
        case "binding_added":
            added = message.binding_added
            return BindingAdded(added.exchange, _binding_from_proto(added.binding))
        case _:
            removed = message.binding_removed
            return BindingRemoved(removed.exchange, _binding_from_proto(removed.binding))


def _kind(number: int) -> ExchangeKind:
    try:
        return ExchangeKind(number)
    except ValueError:
        raise PoisonEntry(f"an exchange of kind {number}, which this version does not know") from None


def _binding_to_proto(binding: Binding) -> storage_pb2.Binding:
    return storage_pb2.Binding(
        topic=binding.topic,
        exchange=binding.exchange,
        routing_key=binding.routing_key,
        headers=[storage_pb2.BindingHeader(name=name, value=value) for name, value in binding.headers],
        any=binding.any,
    )


def _binding_from_proto(message: storage_pb2.Binding) -> Binding:
    headers = tuple((header.name, header.value) for header in message.headers)
    return Binding(message.topic, message.exchange, message.routing_key, headers, message.any)
