"""raftmq.v1.Exchanges: decided by the controller's leader, read from any node's picture. See also ``publishing``."""

from __future__ import annotations

from collections.abc import Iterable

from raftmq.broker.cluster import Decide
from raftmq.broker.deadlines import CallContext
from raftmq.broker.dispatch import Entry, Target
from raftmq.broker.publishing import Publishing
from raftmq.broker.view import View
from raftmq.errors import InvalidArgument, Outcome, UnknownExchange
from raftmq.exchanges import Step
from raftmq.ids import CONTROLLER_GROUP
from raftmq.metadata import binding as deciding
from raftmq.metadata.exchange import Binding, ExchangeKind, ExchangeRecord
from raftmq.metadata.image import MetadataImage
from raftmq.v1 import exchanges_pb2, types_pb2

LIMIT_MS = 10_000

_ANY_OF = {
    exchanges_pb2.HEADER_MATCH_UNSPECIFIED: False,
    exchanges_pb2.HEADER_MATCH_ALL: False,
    exchanges_pb2.HEADER_MATCH_ANY: True,
}


class ExchangeService:
    """The methods of ``raftmq.v1.Exchanges``."""

    def __init__(self, view: View, publishing: Publishing) -> None:
        self._view = view
        self._publishing = publishing

    def entries(self) -> dict[str, Entry]:
        """For the table of methods."""
        return {
            "Exchanges.DeclareExchange": Entry(self.declare_exchange, reads=False, target=_named_target),
            "Exchanges.DeleteExchange": Entry(self.delete_exchange, reads=False, target=_named_target),
            "Exchanges.Bind": Entry(self.bind, reads=False, target=_binding_target),
            "Exchanges.Unbind": Entry(self.unbind, reads=False, target=_binding_target),
            "Exchanges.ListExchanges": Entry(self.list_exchanges, reads=True),
            "Exchanges.TraceRoute": Entry(self.trace_route, reads=True),
            "Exchanges.Publish": Entry(self._publishing.publish, reads=False),
        }

    async def declare_exchange(
        self, request: exchanges_pb2.DeclareExchangeRequest, context: CallContext
    ) -> exchanges_pb2.DeclareExchangeResponse:
        wish = deciding.DeclareExchange(request.name, _kind_of(request), request.alternate_exchange)
        image = await self._decide(
            lambda image: deciding.declare_exchange(image, wish), context, validate_only=request.validate_only
        )
        return exchanges_pb2.DeclareExchangeResponse(
            header=self._view.controller_header(),
            exchange=_info(_decided(image, request.name)),
            metadata_version=image.version,
        )

    async def delete_exchange(
        self, request: exchanges_pb2.DeleteExchangeRequest, context: CallContext
    ) -> exchanges_pb2.DeleteExchangeResponse:
        image = await self._decide(
            lambda image: deciding.delete_exchange(image, request.name, force=request.force), context
        )
        return exchanges_pb2.DeleteExchangeResponse(
            header=self._view.controller_header(), metadata_version=image.version
        )

    async def bind(self, request: exchanges_pb2.BindRequest, context: CallContext) -> exchanges_pb2.BindResponse:
        wish = _binding_of(request.binding)
        image = await self._decide(
            lambda image: deciding.bind(image, request.exchange, wish), context, validate_only=request.validate_only
        )
        return exchanges_pb2.BindResponse(
            header=self._view.controller_header(),
            exchange=_info(_decided(image, request.exchange)),
            metadata_version=image.version,
        )

    async def unbind(self, request: exchanges_pb2.UnbindRequest, context: CallContext) -> exchanges_pb2.UnbindResponse:
        wish = _binding_of(request.binding)
        image = await self._decide(lambda image: deciding.unbind(image, request.exchange, wish), context)
        return exchanges_pb2.UnbindResponse(
            header=self._view.controller_header(),
            exchange=_info(_decided(image, request.exchange)),
            metadata_version=image.version,
        )

    async def list_exchanges(
        self, request: exchanges_pb2.ListExchangesRequest, context: CallContext
    ) -> exchanges_pb2.ListExchangesResponse:
        await self._view.until_replayed(context)
        image = self._view.cluster.image
        names = set(request.names) & image.exchanges.keys() if request.names else image.exchanges.keys()
        return exchanges_pb2.ListExchangesResponse(
            header=self._view.controller_header(),
            exchanges=[_info(image.exchanges[name]) for name in sorted(names)],
            metadata_version=image.version,
        )

    async def trace_route(
        self, request: exchanges_pb2.TraceRouteRequest, context: CallContext
    ) -> exchanges_pb2.TraceRouteResponse:
        route, version = await self._publishing.route(request, context)
        return exchanges_pb2.TraceRouteResponse(
            header=self._view.controller_header(),
            topics=route.topics,
            steps=_steps(route.steps),
            metadata_version=version,
        )

    async def _decide(self, decide: Decide, context: CallContext, *, validate_only: bool = False) -> MetadataImage:
        """The image with what was decided; `validate_only`: as it would be."""
        cluster = self._view.cluster
        if validate_only:
            image = cluster.image
            for event in decide(image):
                image = image.replay(event)
            return image
        await cluster.decide(decide, context.within(LIMIT_MS))
        return cluster.image


def _named_target(request: exchanges_pb2.DeclareExchangeRequest | exchanges_pb2.DeleteExchangeRequest) -> Target:
    if not request.name:
        raise InvalidArgument("names no exchange", field="name")
    return Target(CONTROLLER_GROUP, LIMIT_MS)


def _binding_target(request: exchanges_pb2.BindRequest | exchanges_pb2.UnbindRequest) -> Target:
    if not request.exchange:
        raise InvalidArgument("names no exchange", field="exchange")
    return Target(CONTROLLER_GROUP, LIMIT_MS)


def _decided(image: MetadataImage, name: str) -> ExchangeRecord:
    exchange = image.exchanges.get(name)
    if exchange is None:
        raise UnknownExchange(f"exchange {name} was changed, and deleted at once", outcome=Outcome.APPLIED)
    return exchange


def _kind_of(request: exchanges_pb2.DeclareExchangeRequest) -> ExchangeKind:
    try:
        return ExchangeKind(request.kind)
    except ValueError:
        known = ", ".join(kind.name for kind in ExchangeKind)
        raise InvalidArgument(f"is none of {known}", field="kind") from None


def _binding_of(wire: exchanges_pb2.Binding) -> Binding:
    any_of = _ANY_OF.get(wire.match)
    if any_of is None:
        raise InvalidArgument(f"match {wire.match} is not known here", field="binding.match")
    headers = sorted((header.name, header.value) for header in wire.headers)
    return Binding(wire.topic, wire.exchange, wire.routing_key, tuple(headers), any_of)


def _wire(binding: Binding) -> exchanges_pb2.Binding:
    wire = exchanges_pb2.Binding(
        routing_key=binding.routing_key,
        headers=[types_pb2.Header(name=name, value=value) for name, value in binding.headers],
    )
    if binding.topic:
        wire.topic = binding.topic
    else:
        wire.exchange = binding.exchange
    if binding.headers:
        wire.match = exchanges_pb2.HEADER_MATCH_ANY if binding.any else exchanges_pb2.HEADER_MATCH_ALL
    return wire


def _info(exchange: ExchangeRecord) -> exchanges_pb2.ExchangeInfo:
    return exchanges_pb2.ExchangeInfo(
        name=exchange.name,
        kind=exchanges_pb2.ExchangeKind.ValueType(exchange.kind),
        alternate_exchange=exchange.alternate,
        bindings=[_wire(binding) for binding in exchange.bindings],
    )


def _steps(steps: Iterable[Step]) -> list[exchanges_pb2.RouteStep]:
    return [
        exchanges_pb2.RouteStep(
            exchange=step.exchange,
            bindings=[_wire(binding) for binding in step.bindings],
            alternate_exchange=step.alternate,
        )
        for step in steps
    ]
