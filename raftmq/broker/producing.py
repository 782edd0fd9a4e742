"""Produce: from a request to a checked batch at its partition's leader, and from an acknowledgement to a receipt.

Nothing here is done per record for a batch that its client has made. Plain records are for thin clients, who pay for
the convenience: the server looks at each key, builds the batch and checks it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from google.protobuf.message import Message

from raftmq import status
from raftmq.broker.deadlines import CallContext, duration_ms
from raftmq.broker.dispatch import Part, Settle, Target
from raftmq.broker.fetching import OFFSET_MAX
from raftmq.broker.view import View, deal_by_key
from raftmq.errors import InvalidArgument, Outcome, RaftmqError
from raftmq.ids import GroupId, Offset, PartitionId
from raftmq.metadata.image import PartitionRecord, TopicRecord
from raftmq.records.batch import CheckedBatch, check_batch, check_message_id, check_records, make_batch
from raftmq.records.loose import HEADER_BYTES, LooseRecords, loosen
from raftmq.records.slots import partition_for_key
from raftmq.replica.waits import Ack, Acks
from raftmq.v1 import broker_pb2, queue_pb2, types_pb2

TIMEOUT_MAX_MS = 300_000
PLAIN_RECORDS_MAX = 10_000
"""Most plain records in a request: the server spends microseconds on each, and serves nobody else meanwhile."""

_ACKS = {
    types_pb2.ACKS_UNSPECIFIED: Acks.ALL,
    types_pb2.ACKS_ALL: Acks.ALL,
    types_pb2.ACKS_QUORUM: Acks.QUORUM,
    types_pb2.ACKS_LEADER: Acks.LEADER,
    types_pb2.ACKS_NONE: Acks.NONE,
}


class Producing:
    """The method Produce. ``default_timeout_ms``: of a request that names no time."""

    def __init__(self, view: View, default_timeout_ms: int) -> None:
        self._view = view
        self._default_timeout_ms = default_timeout_ms
        self._turns: dict[str, int] = {}
        """Per topic: how many batches without key and partition came here."""

    def target(self, request: broker_pb2.ProduceRequest) -> Target:
        """Where `request` goes. A partition that it leaves open is chosen, and written into it, unless its keys belong
        to several: then it falls into parts."""
        topic = self._view.topic(request.topic)
        _check_shape(request)
        acks_of(request)
        timeout_ms = self._timeout_ms(request)
        amended = not request.HasField("partition")
        if amended:
            dealt = self._deal(request, topic)
            if len(dealt) > 1:
                group = topic.partitions[0].group
                return Target(group, timeout_ms, request.no_forward, parts=_parts(request, dealt))
            request.partition = next(iter(dealt))
        partition = self._view.partition(topic, request.partition)
        return Target(partition.group, timeout_ms, request.no_forward, amended)

    async def produce(self, request: broker_pb2.ProduceRequest, context: CallContext) -> broker_pb2.ProduceResponse:
        """Append as the leader; `target` has passed."""
        topic = self._view.topic(request.topic)
        partition = self._view.partition(topic, request.partition)
        ack = await self._append(request, topic, partition.group, context.within(self._timeout_ms(request)))
        return self._answer(topic, partition, ack)

    def begin(self, request: broker_pb2.ProduceRequest, context: CallContext, settle: Settle) -> bool:
        """As ``produce``, where the leader can begin at once."""
        topic = self._view.topic(request.topic)
        records = _loose(request, topic)
        if records is None:
            return False
        partition = self._view.partition(topic, request.partition)

        def done(ack: Ack | RaftmqError) -> None:
            settle(partial(self._told, topic, partition, ack))

        timeout_ms = context.within(self._timeout_ms(request))
        return self._view.host.begin_gather(
            partition.group, records, acks_of(request), topic.min_in_sync_replicas, timeout_ms, topic.max_batch_bytes,
            done,
        )  # fmt: skip

    def _told(
        self, topic: TopicRecord, partition: PartitionRecord, ack: Ack | RaftmqError
    ) -> broker_pb2.ProduceResponse:
        if isinstance(ack, RaftmqError):
            raise ack
        return self._answer(topic, partition, ack)

    async def _append(
        self, request: broker_pb2.ProduceRequest, topic: TopicRecord, group: GroupId, timeout_ms: int
    ) -> Ack:
        host, acks, min_in_sync = self._view.host, acks_of(request), topic.min_in_sync_replicas
        records = _loose(request, topic)
        if records is not None:
            return await host.gather(group, records, acks, min_in_sync, timeout_ms, topic.max_batch_bytes)
        expected = Offset(request.expected_offset) if request.HasField("expected_offset") else None
        batch = _batch_of(request, topic)
        return await host.produce(group, batch, acks, min_in_sync, timeout_ms, expected, topic.depth)

    def _answer(self, topic: TopicRecord, partition: PartitionRecord, ack: Ack) -> broker_pb2.ProduceResponse:
        return broker_pb2.ProduceResponse(
            header=self._view.header(partition.group, ack.term),
            receipt=receipt_of(topic, partition.partition, ack),
            high_watermark=self._view.high_watermark(partition.group),
        )

    def join(self, answers: Sequence[tuple[Part, broker_pb2.ProduceResponse | RaftmqError]]) -> Message:
        """One answer for all parts, or their error where all have failed."""
        joined = broker_pb2.ProduceResponse(header=self._view.header())
        for part, answer in answers:
            result = joined.results.add(partition=part.request.partition, record_positions=part.about)
            if isinstance(answer, RaftmqError):
                result.error.CopyFrom(status.to_message(answer))
            else:
                result.receipt.CopyFrom(answer.receipt)
                result.high_watermark = answer.high_watermark
        errors = [answer for _, answer in answers if isinstance(answer, RaftmqError)]
        if len(errors) == len(answers):
            # Whoever tries again must not believe that nothing happened where it may have.
            raise next((error for error in errors if error.outcome is not Outcome.NOT_APPLIED), errors[0])
        return joined

    def _timeout_ms(self, request: broker_pb2.ProduceRequest) -> int:
        if not request.HasField("timeout"):
            return self._default_timeout_ms
        return duration_ms(request.timeout, "timeout", low=1, high=TIMEOUT_MAX_MS)

    def _deal(self, request: broker_pb2.ProduceRequest, topic: TopicRecord) -> Mapping[PartitionId, Sequence[int]]:
        """The request's records, by their keys; without any, to the next partition in turn that has a leader."""
        count = len(topic.partitions)
        if count > 1 and request.HasField("batch"):
            # Its keys are not looked at, and a key must always go to the same partition.
            raise InvalidArgument("a batch names its partition: the broker does not take it apart", field="partition")
        dealt = deal_by_key(request.records, count)
        if dealt:
            return dealt
        if request.message_id:
            # Sent again, they must meet the partition that knows the id, whether it can be reached now or not.
            return {partition_for_key(request.message_id.encode(), count): range(len(request.records))}
        turn = self._turns.get(topic.name, 0)
        self._turns[topic.name] = turn + 1
        order = [topic.partitions[(turn + step) % count] for step in range(count)]
        led = (partition for partition in order if self._view.host.leader_of(partition.group) is not None)
        return {next(led, order[0]).partition: range(len(request.records))}


def _parts(request: broker_pb2.ProduceRequest, dealt: Mapping[PartitionId, Sequence[int]]) -> tuple[Part, ...]:
    """A request for each partition. All records are checked before, so that a bad one is named as it was sent, and
    nothing is appended beside it."""
    check_records(request.records)
    parts = []
    for partition, positions in dealt.items():
        part = broker_pb2.ProduceRequest(
            topic=request.topic,
            partition=partition,
            records=[request.records[position] for position in positions],
            acks=request.acks,
            no_forward=request.no_forward,
            message_id=request.message_id,
        )
        if request.HasField("timeout"):
            part.timeout.CopyFrom(request.timeout)
        parts.append(Part(part, positions))
    return tuple(parts)


def _check_shape(request: broker_pb2.ProduceRequest) -> None:
    if request.HasField("batch"):
        if request.records:
            raise InvalidArgument("either a batch or plain records, not both", field="records")
        if request.message_id:
            raise InvalidArgument("a batch has its id in its header", field="message_id")
    elif not request.records:
        raise InvalidArgument("neither a batch nor records", field="batch")
    if request.message_id:
        check_message_id(request.message_id, "message_id")
    if request.HasField("expected_offset"):
        if not request.HasField("partition"):
            raise InvalidArgument("is required where an offset is expected", field="partition")
        if request.expected_offset > OFFSET_MAX:
            raise InvalidArgument(f"{request.expected_offset} is more than {OFFSET_MAX}", field="expected_offset")
    if len(request.records) > PLAIN_RECORDS_MAX:
        raise InvalidArgument(
            f"{len(request.records)} plain records, at most {PLAIN_RECORDS_MAX}: make a batch of them", field="records"
        )


def _loose(request: broker_pb2.ProduceRequest, topic: TopicRecord) -> LooseRecords | None:
    """Plain records that ask for nothing special may share an entry with those of other requests; None: others. Not
    where their partition may be too deep for them: each request is judged by itself then."""
    if not request.records or request.message_id or request.HasField("expected_offset") or topic.depth:
        return None
    records = loosen(request.records)
    return records if records.size + HEADER_BYTES <= topic.max_batch_bytes else None


def _batch_of(request: broker_pb2.ProduceRequest, topic: TopicRecord) -> CheckedBatch:
    if request.HasField("batch"):
        return check_batch(request.batch, max_batch_bytes=topic.max_batch_bytes)
    made = make_batch(request.records, message_id=request.message_id, field="records")
    return check_batch(made, max_batch_bytes=topic.max_batch_bytes, field="records")


def acks_of(request: broker_pb2.ProduceRequest | queue_pb2.AckAndPublishRequest) -> Acks:
    acks = _ACKS.get(request.acks)
    if acks is None:
        raise InvalidArgument(f"acks {request.acks} is not known here", field="acks")
    return acks


def receipt_of(topic: TopicRecord, partition: PartitionId, ack: Ack) -> types_pb2.Receipt:
    return types_pb2.Receipt(
        topic=topic.name,
        partition=partition,
        base_offset=ack.base_offset,
        count=ack.count,
        leader_epoch=ack.term,
        log_index=ack.index,
        append_time_ms=ack.wall_ms,
        replicas=ack.replicas,
        duplicate=ack.duplicate,
        queue_us=ack.queue_ms * 1000,
        sync_us=ack.sync_ms * 1000,
        replication_us=ack.replication_ms * 1000,
    )
