"""Exchanges of the fake cluster: decided and routed by the real, pure code, appended to the fake partitions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raftmq import status
from raftmq.broker import exchange_service as real
from raftmq.errors import NotReady, RaftmqError, Unroutable
from raftmq.exchanges import Router
from raftmq.ids import LogIndex
from raftmq.metadata import binding as deciding
from raftmq.metadata.events import TopicCreated
from raftmq.metadata.image import MetadataImage, TopicRecord
from raftmq.records.batch import make_batch
from raftmq.v1 import exchanges_pb2, exchanges_pb2_grpc, types_pb2

if TYPE_CHECKING:
    from tests.client.fake_broker import FakeCluster


class FakeExchangeState:
    """The image that all fake nodes share."""

    def __init__(self) -> None:
        self.image = MetadataImage()
        self.refusals: dict[str, list[RaftmqError]] = {}
        """By topic: what the next publishes to it end in."""

    def decide(self, cluster: FakeCluster, decide: Any) -> MetadataImage:
        topics = {name: TopicRecord(1, name, 2, 1, 1024, ()) for name in cluster.topics}
        image = MetadataImage(version=self.image.version, topics=topics, exchanges=self.image.exchanges)
        decided = decide(image)
        for event in decided:
            assert not isinstance(event, TopicCreated)
            image = image.replay(event)
        self.image = image.at(LogIndex(image.version + bool(decided)))
        return self.image


def service(base: type) -> type:
    """The service, over what all services of the fake have in common."""

    class FakeExchanges(base, exchanges_pb2_grpc.ExchangesServicer):  # type: ignore[misc]
        async def _decided(self, name: str, request: Any, context: Any, answer: Any, decide: Any) -> Any:
            async def work() -> Any:
                image = self._cluster.exchanges.decide(self._cluster, decide)
                made = answer(header=self._cluster.header(self._node_id), metadata_version=image.version)
                known = image.exchanges.get(request.exchange if hasattr(request, "exchange") else request.name)
                if known is not None and hasattr(made, "exchange"):
                    made.exchange.CopyFrom(real._info(known))
                return made

            return await self._handle(name, context, work)

        async def DeclareExchange(self, request: Any, context: Any) -> Any:
            def decide(image: MetadataImage) -> Any:
                kind = real._kind_of(request)
                wish = deciding.DeclareExchange(request.name, kind, request.alternate_exchange)
                return deciding.declare_exchange(image, wish)

            answer = exchanges_pb2.DeclareExchangeResponse
            return await self._decided("DeclareExchange", request, context, answer, decide)

        async def DeleteExchange(self, request: Any, context: Any) -> Any:
            return await self._decided(
                "DeleteExchange", request, context, exchanges_pb2.DeleteExchangeResponse,
                lambda image: deciding.delete_exchange(image, request.name, force=request.force),
            )  # fmt: skip

        async def Bind(self, request: Any, context: Any) -> Any:
            return await self._decided(
                "Bind", request, context, exchanges_pb2.BindResponse,
                lambda image: deciding.bind(image, request.exchange, real._binding_of(request.binding)),
            )  # fmt: skip

        async def Unbind(self, request: Any, context: Any) -> Any:
            return await self._decided(
                "Unbind", request, context, exchanges_pb2.UnbindResponse,
                lambda image: deciding.unbind(image, request.exchange, real._binding_of(request.binding)),
            )  # fmt: skip

        async def ListExchanges(self, request: Any, context: Any) -> Any:
            async def work() -> Any:
                known = sorted(self._cluster.exchanges.image.exchanges.items())
                return exchanges_pb2.ListExchangesResponse(
                    header=self._cluster.header(self._node_id), exchanges=[real._info(one) for _, one in known]
                )

            return await self._handle("ListExchanges", context, work)

        def _route(self, request: Any) -> Any:
            image = self._cluster.exchanges.image
            if request.min_metadata_version > image.version:
                raise NotReady("behind", field="min_metadata_version")
            headers = [(header.name, header.value) for header in request.headers]
            return Router(image.exchanges).route(request.exchange, request.routing_key, headers)

        async def TraceRoute(self, request: Any, context: Any) -> Any:
            async def work() -> Any:
                route = self._route(request)
                return exchanges_pb2.TraceRouteResponse(
                    header=self._cluster.header(self._node_id), topics=route.topics, steps=real._steps(route.steps)
                )

            return await self._handle("TraceRoute", context, work)

        async def Publish(self, request: Any, context: Any) -> Any:
            async def work() -> Any:
                route = self._route(request)
                if request.mandatory and not route.topics:
                    raise Unroutable("nothing fits")
                answer = exchanges_pb2.PublishResponse(header=self._cluster.header(self._node_id))
                for topic in route.topics:
                    self._append(answer.results.add(topic=topic), request)
                return answer

            return await self._handle("Publish", context, work)

        def _append(self, result: Any, request: Any) -> None:
            refusals = self._cluster.exchanges.refusals.get(result.topic)
            if refusals:
                result.error.CopyFrom(status.to_message(refusals.pop(0)))
                return
            partition = self._cluster.partition(result.topic, 0)
            offset, duplicate = partition.append(make_batch(request.records, message_id=request.message_id))
            result.partitions.add().receipt.CopyFrom(
                types_pb2.Receipt(
                    topic=result.topic, base_offset=offset, count=len(request.records), duplicate=duplicate
                )
            )

    return FakeExchanges
