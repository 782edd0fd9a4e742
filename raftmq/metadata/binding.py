"""What the controller's leader decides on exchanges and their bindings; see ``decisions``.

Exchanges may lead to each other in circles: whoever routes visits each once. What a binding or an alternate names has
to exist when it is named, so that a slip of the pen is told at once; and it ends with what it names.
"""

from __future__ import annotations

from dataclasses import dataclass

from raftmq.errors import (
    AlreadyExists,
    InvalidArgument,
    PreconditionFailed,
    UnknownBinding,
    UnknownExchange,
    UnknownTopic,
)
from raftmq.metadata.decisions import RESERVED, check_name
from raftmq.metadata.events import BindingAdded, BindingRemoved, Event, ExchangeDeclared, ExchangeDeleted
from raftmq.metadata.exchange import Binding, ExchangeKind, ExchangeRecord
from raftmq.metadata.exchange_events import leads_to
from raftmq.metadata.image import MetadataImage

ROUTING_KEY_BYTES_MAX = 255
PATTERN_WORDS_MAX = 32
HEADERS_MAX = 16
"""Of a binding."""
HEADER_NAME_BYTES_MAX = 256
HEADER_VALUE_BYTES_MAX = 1024
"""Every node holds it in memory, and in the log of the metadata, which is kept from its start."""
NAME_SHOWN = 100


@dataclass(frozen=True, slots=True)
class ExchangePolicy:
    """What none may exceed."""

    exchanges_max: int = 1_000
    bindings_max: int = 1_000
    """Of an exchange."""
    bindings_total_max: int = 20_000


DEFAULT_POLICY = ExchangePolicy()


@dataclass(frozen=True, slots=True)
class DeclareExchange:
    """An exchange that somebody wants."""

    name: str
    kind: ExchangeKind
    alternate: str = ""


def declare_exchange(
    image: MetadataImage, wish: DeclareExchange, policy: ExchangePolicy = DEFAULT_POLICY
) -> list[Event]:
    """A new exchange; no events where there is an equal one.

    Raises InvalidArgument, UnknownExchange (its alternate), AlreadyExists (another one under the name), or
    PreconditionFailed (there are too many).
    """
    check_name(wish.name, "name", "an exchange")
    if wish.alternate == wish.name:
        raise InvalidArgument("an exchange is no alternate of its own", field="alternate_exchange")
    if wish.alternate:
        _exchange(image, wish.alternate, "alternate_exchange")
    known = image.exchanges.get(wish.name)
    if known is not None:
        if (known.kind, known.alternate) == (wish.kind, wish.alternate):
            return []
        alternate = f"alternate {known.alternate!r}" if known.alternate else "no alternate"
        raise AlreadyExists(
            f"exchange {wish.name} exists, of kind {known.kind.name.lower()} and with {alternate}", field="name"
        )
    if len(image.exchanges) >= policy.exchanges_max:
        raise PreconditionFailed(
            f"the cluster has {len(image.exchanges)} exchanges and may have no more: delete some", field="name"
        )
    return [ExchangeDeclared(wish.name, wish.kind, wish.alternate)]


def delete_exchange(image: MetadataImage, name: str, *, force: bool = False) -> list[Event]:
    """The end of an exchange. Raises UnknownExchange, or PreconditionFailed: others lead to it, and `force` is not
    said."""
    _exchange(image, name, "name")
    users = sorted(known.name for known in image.exchanges.values() if known.name != name and leads_to(known, name))
    if users and not force:
        more = f" and {len(users) - 5} more" if len(users) > 5 else ""
        raise PreconditionFailed(
            f"exchanges lead to {name}, by a binding or as their alternate: {', '.join(users[:5])}{more}. Unbind or "
            "delete them, or force it",
            field="name",
        )
    return [ExchangeDeleted(name)]


def bind(image: MetadataImage, exchange: str, binding: Binding, policy: ExchangePolicy = DEFAULT_POLICY) -> list[Event]:
    """A new binding; no events where there is an equal one.

    Raises InvalidArgument, UnknownExchange, UnknownTopic, or PreconditionFailed (there are too many).
    """
    known = _exchange(image, exchange, "exchange")
    _check_binding(known, binding)
    if binding.exchange:
        _exchange(image, binding.exchange, "binding.exchange")
    elif binding.topic not in image.topics:
        raise UnknownTopic(f"there is no topic {binding.topic[:NAME_SHOWN]!r}", field="binding.topic")
    if binding in known.bindings:
        return []
    if len(known.bindings) >= policy.bindings_max:
        raise PreconditionFailed(
            f"exchange {exchange} has {len(known.bindings)} bindings and may have no more: bind another exchange to "
            "it, and go on there",
            field="binding",
        )
    if sum(len(one.bindings) for one in image.exchanges.values()) >= policy.bindings_total_max:
        raise PreconditionFailed(
            f"the cluster has {policy.bindings_total_max} bindings and may have no more", field="binding"
        )
    return [BindingAdded(exchange, binding)]


def unbind(image: MetadataImage, exchange: str, binding: Binding) -> list[Event]:
    """The end of a binding. Raises UnknownExchange or UnknownBinding."""
    if binding not in _exchange(image, exchange, "exchange").bindings:
        raise UnknownBinding(f"exchange {exchange} has no such binding", field="binding")
    return [BindingRemoved(exchange, binding)]


def _exchange(image: MetadataImage, name: str, field: str) -> ExchangeRecord:
    known = image.exchanges.get(name)
    if known is None:
        raise UnknownExchange(f"there is no exchange {name[:NAME_SHOWN]!r}", field=field)
    return known


def _check_binding(exchange: ExchangeRecord, binding: Binding) -> None:
    """What `exchange` would not look at is refused: whoever wrote it meant another kind."""
    if bool(binding.topic) == bool(binding.exchange):
        raise InvalidArgument("leads either to a topic or to an exchange", field="binding")
    for name, field in ((binding.topic, "binding.topic"), (binding.exchange, "binding.exchange")):
        if name.startswith(RESERVED):
            raise InvalidArgument(f"names that begin with {RESERVED} are reserved", field=field)
    kind = exchange.kind
    if binding.routing_key and kind not in (ExchangeKind.DIRECT, ExchangeKind.TOPIC):
        raise InvalidArgument(
            f"{exchange.name} is of kind {kind.name.lower()}, which looks at no routing key",
            field="binding.routing_key",
        )
    if (binding.headers or binding.any) and kind is not ExchangeKind.HEADERS:
        raise InvalidArgument(
            f"{exchange.name} is of kind {kind.name.lower()}, which looks at no headers", field="binding.headers"
        )
    check_routing_key(binding.routing_key, "binding.routing_key")
    if kind is ExchangeKind.TOPIC:
        _check_pattern(binding.routing_key)
    if binding.any and not binding.headers:
        raise InvalidArgument("any of no headers fits nothing", field="binding.headers")
    _check_headers(binding)


def check_routing_key(routing_key: str, field: str) -> None:
    """Raises InvalidArgument where it is too long."""
    size = len(routing_key.encode())
    if size > ROUTING_KEY_BYTES_MAX:
        raise InvalidArgument(f"a routing key has at most {ROUTING_KEY_BYTES_MAX} bytes, not {size}", field=field)


def _check_pattern(pattern: str) -> None:
    words = pattern.split(".")
    if len(words) > PATTERN_WORDS_MAX:
        raise InvalidArgument(
            f"a pattern has at most {PATTERN_WORDS_MAX} words, not {len(words)}", field="binding.routing_key"
        )
    if any(len(word) > 1 and ("*" in word or "#" in word) for word in words):
        raise InvalidArgument("'*' and '#' stand for whole words between dots", field="binding.routing_key")


def _check_headers(binding: Binding) -> None:
    names = [name for name, _ in binding.headers]
    if len(names) > HEADERS_MAX:
        raise InvalidArgument(f"a binding has at most {HEADERS_MAX} headers, not {len(names)}", field="binding.headers")
    if len(set(names)) < len(names):
        raise InvalidArgument("a binding names each header once", field="binding.headers")
    for name, value in binding.headers:
        if not 1 <= len(name.encode()) <= HEADER_NAME_BYTES_MAX:
            raise InvalidArgument(f"a header's name has 1 to {HEADER_NAME_BYTES_MAX} bytes", field="binding.headers")
        if len(value) > HEADER_VALUE_BYTES_MAX:
            raise InvalidArgument(
                f"a header's value has at most {HEADER_VALUE_BYTES_MAX} bytes, not {len(value)}",
                field="binding.headers",
            )
