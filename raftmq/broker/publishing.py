"""Publish: one request, appended to every topic that its exchange leads to.

Each topic gets a Produce of its own, through this node's table of methods, so that it is routed, handed on, tried
again and deduplicated like any other. They run side by side and end by themselves: what one topic refuses changes
nothing about the others, and the answer has a result for each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from raftmq import status
from raftmq.broker.deadlines import CallContext, duration_ms
from raftmq.broker.patience import NEWS_WAIT_MS
from raftmq.broker.producing import PLAIN_RECORDS_MAX, TIMEOUT_MAX_MS
from raftmq.broker.streaming import Routed
from raftmq.broker.view import View
from raftmq.errors import InvalidArgument, MessageTooLarge, NotReady, PreconditionFailed, UnknownExchange, Unroutable
from raftmq.exchanges import Route, Router
from raftmq.ids import CONTROLLER_GROUP
from raftmq.metadata.binding import check_routing_key
from raftmq.metadata.image import TopicRecord
from raftmq.records.batch import (
    HEADER_NAME_BYTES_MAX,
    HEADER_VALUE_BYTES_MAX,
    RECORD_HEADERS_MAX,
    check_batch,
    check_message_id,
    check_records,
)
from raftmq.records.slots import partition_for_key
from raftmq.rpc.interceptor import tell
from raftmq.v1 import broker_pb2, exchanges_pb2, types_pb2

METHOD = "/raftmq.v1.Exchanges/Publish"
PRODUCE = "/raftmq.v1.Broker/Produce"

TOPICS_MAX = 1_000
"""Most topics that one publish reaches."""
RECORDS_MAX = 100_000
"""Most records that one publish appends, over all topics: each is looked at once a topic."""
BYTES_MAX = 64 * 1024 * 1024
"""Most bytes that one publish appends, over all topics."""
VERSION_WAIT_MS = 2_000
"""How long a version of the metadata is waited for that others know already."""
MARGIN_MS = 40
"""The topics' calls end so much before the whole: what they know at their deadline must still be told."""
COUNTED_MAX = 200
OTHERS = "(others)"
"""Stands for the exchanges beyond the first COUNTED_MAX that were published to; none can have this name."""


@dataclass(slots=True)
class ExchangeCounts:
    """What was published to one exchange through this node."""

    published: int = 0
    """Calls that were routed."""
    unroutable: int = 0
    """Of these, those that reached no topic."""
    appended: int = 0
    """Topics that took the records, over all calls."""
    refused: int = 0
    """Topics that did not, or not all of them."""


class RoutingCounts:
    """By exchange. The number of series is bounded, whatever exchanges come and go."""

    def __init__(self) -> None:
        self._counts: dict[str, ExchangeCounts] = {}

    def of(self, exchange: str) -> ExchangeCounts:
        """To be counted up."""
        if exchange not in self._counts and len(self._counts) >= COUNTED_MAX:
            exchange = OTHERS
        return self._counts.setdefault(exchange, ExchangeCounts())

    def snapshot(self) -> dict[str, ExchangeCounts]:
        return dict(sorted(self._counts.items()))


class Publishing:
    """The method Publish, and what it has in common with TraceRoute. ``calls``: this node's table of methods."""

    def __init__(self, view: View, calls: Callable[[], Routed], counts: RoutingCounts) -> None:
        self._view = view
        self._calls = calls
        self._counts = counts
        self._router = Router({})
        self._turn = 0
        """How many batches without key and message id came here."""

    async def publish(
        self, request: exchanges_pb2.PublishRequest, context: CallContext
    ) -> exchanges_pb2.PublishResponse:
        """See ``raftmq.v1.Exchanges.Publish``."""
        _check(request)
        if request.HasField("timeout"):
            context = context.narrowed(duration_ms(request.timeout, "timeout", low=1, high=TIMEOUT_MAX_MS))
        route, version = await self.route(request, context)
        counts = self._counts.of(request.exchange)
        counts.published += 1
        counts.unroutable += not route.topics
        if request.mandatory and not route.topics:
            raise Unroutable(
                f"no binding of exchange {request.exchange} fits the routing key and the headers, nor one of the "
                "alternates on the way",
                metadata={"metadata_version": str(version)},
            )
        _check_amount(request, len(route.topics))
        # Not one of these outlives the call, and none of them raises.
        inner = context.narrowed(max(1, context.remaining_ms - MARGIN_MS))
        results = await asyncio.gather(*(self._append(topic, request, inner) for topic in route.topics))
        refused = sum(result.HasField("error") for result in results)
        counts.refused += refused
        counts.appended += len(results) - refused
        return exchanges_pb2.PublishResponse(
            header=self._view.controller_header(), results=results, metadata_version=version
        )

    async def route(
        self, request: exchanges_pb2.PublishRequest | exchanges_pb2.TraceRouteRequest, context: CallContext
    ) -> tuple[Route, int]:
        """Where `request` goes, and the version of the metadata that says so. Raises UnknownExchange, NotReady."""
        if not request.exchange:
            raise InvalidArgument("names no exchange", field="exchange")
        check_routing_key(request.routing_key, "routing_key")
        _check_headers(request.headers)
        # Bindings that were there before this process began must not be missing.
        await self._view.until_replayed(context)
        await self._until_version(request.min_metadata_version, context)
        headers = [(header.name, header.value) for header in request.headers]
        patience = self._calls().patience(context)
        while True:
            image = self._view.cluster.image
            if image.exchanges is not self._router.exchanges:
                self._router = Router(image.exchanges, self._router)
            try:
                return self._router.route(request.exchange, request.routing_key, headers), image.version
            except UnknownExchange as error:
                # It may have been declared through another node a moment ago.
                if self._view.host.leads(CONTROLLER_GROUP):
                    raise
                await patience.wait_after(error, NEWS_WAIT_MS)

    async def _until_version(self, version: int, context: CallContext) -> None:
        patience = self._calls().patience(context)
        while self._view.cluster.image.version < version:
            known = self._view.cluster.image.version
            error = NotReady(f"this node knows version {known} of the metadata so far", field="min_metadata_version")
            await patience.wait_after(error, VERSION_WAIT_MS)

    async def _append(
        self, topic: str, request: exchanges_pb2.PublishRequest, context: CallContext
    ) -> exchanges_pb2.TopicResult:
        """What became of the records in one topic. Raises nothing."""
        result = exchanges_pb2.TopicResult(topic=topic)
        calls = self._calls()
        try:
            produce = self._produce(topic, request)
            target = await calls.target(PRODUCE, produce, context)
            answer: broker_pb2.ProduceResponse = await calls.answer(PRODUCE, produce, target, context)
        except Exception as error:  # noqa: BLE001  of one topic; the others have results of their own
            result.error.CopyFrom(status.to_message(tell(METHOD, error)))
            return result
        if not answer.results:
            partition = result.partitions.add(partition=answer.receipt.partition, high_watermark=answer.high_watermark)
            partition.receipt.CopyFrom(answer.receipt)
            return result
        result.partitions.extend(answer.results)
        refusal = next((one.error for one in answer.results if one.HasField("error")), None)
        if refusal is not None:
            result.error.CopyFrom(refusal)
            result.error.detail.outcome = types_pb2.OUTCOME_UNKNOWN  # of the whole: other parts are there
        return result

    def _produce(self, topic: str, request: exchanges_pb2.PublishRequest) -> broker_pb2.ProduceRequest:
        produce = broker_pb2.ProduceRequest(
            topic=topic, records=request.records, acks=request.acks, message_id=request.message_id
        )
        if request.HasField("timeout"):
            produce.timeout.CopyFrom(request.timeout)
        if request.HasField("batch"):
            produce.batch.CopyFrom(request.batch)
            produce.partition = self._partition_of(self._view.topic(topic), request)
        return produce

    def _partition_of(self, topic: TopicRecord, request: exchanges_pb2.PublishRequest) -> int:
        """Where a batch goes: by its key, by its id, or to the next in turn that has a leader."""
        count = len(topic.partitions)
        if request.HasField("partition_key"):
            return partition_for_key(request.partition_key, count)
        if request.batch.header.message_id:
            return partition_for_key(request.batch.header.message_id.encode(), count)
        self._turn += 1
        order = [topic.partitions[(self._turn + step) % count] for step in range(count)]
        led = (partition for partition in order if self._view.host.leader_of(partition.group) is not None)
        return next(led, order[0]).partition


def _check(request: exchanges_pb2.PublishRequest) -> None:
    """What can be wrong whatever the topics are: blamed as it was sent, and nothing is appended anywhere."""
    if request.acks not in types_pb2.Acks.values():
        raise InvalidArgument(f"acks {request.acks} is not known here", field="acks")
    if request.HasField("batch"):
        if request.records:
            raise InvalidArgument("either a batch or plain records, not both", field="records")
        if request.message_id:
            raise InvalidArgument("a batch has its id in its header", field="message_id")
        if request.batch.header.producer_id:
            raise InvalidArgument(
                "a producer's numbers are those of one partition: use a message id", field="batch.header.producer_id"
            )
        check_batch(request.batch, max_batch_bytes=BYTES_MAX)
        return
    if request.HasField("partition_key"):
        raise InvalidArgument("is for a batch: records have keys of their own", field="partition_key")
    if not 1 <= len(request.records) <= PLAIN_RECORDS_MAX:
        raise InvalidArgument(f"1 to {PLAIN_RECORDS_MAX} records, or a batch", field="records")
    check_records(request.records)
    if request.message_id:
        check_message_id(request.message_id, "message_id")


def _check_amount(request: exchanges_pb2.PublishRequest, topics: int) -> None:
    """One small request must not become the work of thousands."""
    if topics > TOPICS_MAX:
        raise PreconditionFailed(f"it would go to {topics} topics, at most {TOPICS_MAX}", field="exchange")
    records = (request.batch.header.count or 1) if request.HasField("batch") else len(request.records)
    if records * topics > RECORDS_MAX:
        raise MessageTooLarge(
            f"{records} records for {topics} topics each, at most {RECORDS_MAX} in all", field="records"
        )
    if request.ByteSize() * topics > BYTES_MAX:
        raise MessageTooLarge(
            f"{request.ByteSize()} bytes for {topics} topics each, at most {BYTES_MAX} in all", field="records"
        )


def _check_headers(headers: Sequence[types_pb2.Header]) -> None:
    if len(headers) > RECORD_HEADERS_MAX:
        raise InvalidArgument(f"{len(headers)} headers, at most {RECORD_HEADERS_MAX}", field="headers")
    for position, header in enumerate(headers):
        if not 1 <= len(header.name.encode()) <= HEADER_NAME_BYTES_MAX:
            raise InvalidArgument(
                f"a header's name has 1 to {HEADER_NAME_BYTES_MAX} bytes", field=f"headers[{position}].name"
            )
        if len(header.value) > HEADER_VALUE_BYTES_MAX:
            raise InvalidArgument(
                f"a header's value has at most {HEADER_VALUE_BYTES_MAX} bytes", field=f"headers[{position}].value"
            )
