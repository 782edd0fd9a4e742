"""Exchanges: declaring, binding, and asking where something would go. Publishing is in ``publishing``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast, get_args

from raftmq.client.exchange_types import (
    BindingDescription,
    ExchangeDescription,
    ExchangeKindName,
    HeaderMatchName,
    RouteDescription,
    RouteStep,
)
from raftmq.client.retry import may_retry_read, may_retry_write
from raftmq.client.router import Router
from raftmq.client.types import Headers
from raftmq.errors import InvalidArgument
from raftmq.v1 import exchanges_pb2, types_pb2

DEFAULT_TIMEOUT_MS = 15_000

_KINDS: Mapping[str, exchanges_pb2.ExchangeKind.ValueType] = {
    name: exchanges_pb2.ExchangeKind.Value(f"EXCHANGE_KIND_{name.upper()}") for name in get_args(ExchangeKindName)
}
_NAMES = {number: name for name, number in _KINDS.items()}
_MATCHES = {"all": exchanges_pb2.HEADER_MATCH_ALL, "any": exchanges_pb2.HEADER_MATCH_ANY}


class Exchanges:
    """``client.exchanges``. Every change may be repeated: what is declared or bound already is left as it is.

    What this client has declared and bound it also publishes by, whichever node is asked: `version` goes along.
    """

    def __init__(self, router: Router) -> None:
        self._router = router
        self.version = 0
        """Newest version of the metadata that this client was told of."""

    async def declare(
        self,
        name: str,
        kind: ExchangeKindName,
        *,
        alternate: str = "",
        validate_only: bool = False,
        timeout_ms: int = DEFAULT_TIMEOUT_MS,
    ) -> ExchangeDescription:
        """An exchange under this name, unless there is an equal one.

        kind: what it looks at. "direct": bindings whose routing key is the record's; "fanout": every binding; "topic":
        bindings whose pattern fits the routing key (``orders.*.created``, ``orders.#``); "headers": bindings whose
        headers the record has.
        alternate: an exchange that gets what no binding of this one fits.

        Raises InvalidArgument naming the field, UnknownExchange (the alternate), AlreadyExists (another one).
        """
        if kind not in _KINDS:
            raise InvalidArgument(f"kind is one of {', '.join(_KINDS)}, not {kind!r}", field="kind")
        request = exchanges_pb2.DeclareExchangeRequest(
            name=name, kind=_KINDS[kind], alternate_exchange=alternate, validate_only=validate_only
        )
        answer = await self._router.to_any(
            lambda node: node.exchanges.DeclareExchange, request, timeout_ms=timeout_ms, judge=may_retry_write
        )
        self._told(answer.metadata_version)
        return _exchange(answer.exchange)

    async def delete(self, name: str, *, force: bool = False, timeout_ms: int = DEFAULT_TIMEOUT_MS) -> None:
        """Delete an exchange with its bindings. `force`: also the bindings of others that lead to it, without which
        PreconditionFailed is raised where there are any. Raises UnknownExchange."""
        answer = await self._router.to_any(
            lambda node: node.exchanges.DeleteExchange,
            exchanges_pb2.DeleteExchangeRequest(name=name, force=force),
            timeout_ms=timeout_ms,
            judge=may_retry_write,
        )
        self._told(answer.metadata_version)

    async def bind(
        self,
        exchange: str,
        *,
        topic: str = "",
        to_exchange: str = "",
        routing_key: str = "",
        headers: Headers | Mapping[str, bytes] = (),
        match: HeaderMatchName = "all",
        validate_only: bool = False,
        timeout_ms: int = DEFAULT_TIMEOUT_MS,
    ) -> ExchangeDescription:
        """Let `exchange` lead to a topic, or to another exchange. Ends with the topic or exchange that it leads to.

        routing_key: of direct exchanges, and of topic exchanges, where it is a pattern.
        headers, match: of exchanges of headers: those that a record must have, "all" or "any" of them. An empty value:
        the header is there, whatever its value.

        Raises InvalidArgument naming the field, UnknownExchange, UnknownTopic, PreconditionFailed (too many).
        """
        request = exchanges_pb2.BindRequest(
            exchange=exchange,
            binding=_binding(topic, to_exchange, routing_key, headers, match),
            validate_only=validate_only,
        )
        answer = await self._router.to_any(
            lambda node: node.exchanges.Bind, request, timeout_ms=timeout_ms, judge=may_retry_write
        )
        self._told(answer.metadata_version)
        return _exchange(answer.exchange)

    async def unbind(
        self,
        exchange: str,
        *,
        topic: str = "",
        to_exchange: str = "",
        routing_key: str = "",
        headers: Headers | Mapping[str, bytes] = (),
        match: HeaderMatchName = "all",
        timeout_ms: int = DEFAULT_TIMEOUT_MS,
    ) -> ExchangeDescription:
        """End a binding: named as it was bound. Raises UnknownExchange, UnknownBinding."""
        request = exchanges_pb2.UnbindRequest(
            exchange=exchange, binding=_binding(topic, to_exchange, routing_key, headers, match)
        )
        answer = await self._router.to_any(
            lambda node: node.exchanges.Unbind, request, timeout_ms=timeout_ms, judge=may_retry_write
        )
        self._told(answer.metadata_version)
        return _exchange(answer.exchange)

    async def list(self, *, timeout_ms: int = DEFAULT_TIMEOUT_MS) -> tuple[ExchangeDescription, ...]:
        """All exchanges, by name."""
        answer = await self._router.to_any(
            lambda node: node.exchanges.ListExchanges,
            exchanges_pb2.ListExchangesRequest(),
            timeout_ms=timeout_ms,
            judge=may_retry_read,
        )
        return tuple(_exchange(one) for one in answer.exchanges)

    async def trace(
        self,
        exchange: str,
        *,
        routing_key: str = "",
        headers: Headers | Mapping[str, bytes] = (),
        timeout_ms: int = DEFAULT_TIMEOUT_MS,
    ) -> RouteDescription:
        """Where would this go, and why? Raises UnknownExchange."""
        request = exchanges_pb2.TraceRouteRequest(
            exchange=exchange,
            routing_key=routing_key,
            headers=wire_headers(headers),
            min_metadata_version=self.version,
        )
        answer = await self._router.to_any(
            lambda node: node.exchanges.TraceRoute, request, timeout_ms=timeout_ms, judge=may_retry_read
        )
        steps = (
            RouteStep(step.exchange, tuple(_described(one) for one in step.bindings), step.alternate_exchange)
            for step in answer.steps
        )
        return RouteDescription(tuple(answer.topics), tuple(steps))

    def _told(self, version: int) -> None:
        self.version = max(self.version, version)


def wire_headers(headers: Headers | Mapping[str, bytes]) -> list[types_pb2.Header]:
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    return [types_pb2.Header(name=name, value=value) for name, value in pairs]


def _binding(
    topic: str,
    to_exchange: str,
    routing_key: str,
    headers: Headers | Mapping[str, bytes],
    match: HeaderMatchName,
) -> exchanges_pb2.Binding:
    if bool(topic) == bool(to_exchange):
        raise InvalidArgument("name either a topic or an exchange that it leads to", field="topic")
    if match not in _MATCHES:
        raise InvalidArgument(f'match is "all" or "any", not {match!r}', field="match")
    binding = exchanges_pb2.Binding(routing_key=routing_key, headers=wire_headers(headers), match=_MATCHES[match])
    if topic:
        binding.topic = topic
    else:
        binding.exchange = to_exchange
    return binding


def _described(wire: exchanges_pb2.Binding) -> BindingDescription:
    return BindingDescription(
        wire.topic,
        wire.exchange,
        wire.routing_key,
        tuple((header.name, header.value) for header in wire.headers),
        "any" if wire.match == exchanges_pb2.HEADER_MATCH_ANY else "all",
    )


def _exchange(wire: exchanges_pb2.ExchangeInfo) -> ExchangeDescription:
    kind = cast("ExchangeKindName", _NAMES.get(wire.kind, "unknown"))
    return ExchangeDescription(wire.name, kind, wire.alternate_exchange, tuple(map(_described, wire.bindings)))
