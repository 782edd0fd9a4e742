"""Produce: from a request to a checked batch at its partition's leader, and from an acknowledgement to a receipt.

Nothing here is done per record for a batch that its client has made. Plain records are for thin clients, who pay for
the convenience: the server looks at each key, builds the batch and checks it.
"""

from __future__ import annotations

from raftmq.broker.deadlines import CallContext, duration_ms
from raftmq.broker.dispatch import Target
from raftmq.broker.view import View, partition_of_keys
from raftmq.errors import InvalidArgument
from raftmq.ids import PartitionId
from raftmq.metadata.image import TopicRecord
from raftmq.records.batch import CheckedBatch, check_batch, make_batch
from raftmq.replica.waits import Ack, Acks
from raftmq.v1 import broker_pb2, types_pb2

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
        """Where `request` goes. A partition that it leaves open is chosen, and written into it."""
        topic = self._view.topic(request.topic)
        _check_shape(request)
        _acks_of(request)
        timeout_ms = self._timeout_ms(request)
        amended = not request.HasField("partition")
        if amended:
            request.partition = self._choose(request, topic)
        partition = self._view.partition(topic, request.partition)
        return Target(partition.group, timeout_ms, request.no_forward, amended)

    async def produce(self, request: broker_pb2.ProduceRequest, context: CallContext) -> broker_pb2.ProduceResponse:
        """Append as the leader; `target` has passed."""
        topic = self._view.topic(request.topic)
        partition = self._view.partition(topic, request.partition)
        ack = await self._view.host.produce(
            partition.group,
            _batch_of(request, topic),
            _acks_of(request),
            topic.min_in_sync_replicas,
            context.within(self._timeout_ms(request)),
        )
        return broker_pb2.ProduceResponse(
            header=self._view.header(partition.group, ack.term),
            receipt=_receipt(topic, partition.partition, ack),
            high_watermark=self._view.high_watermark(partition.group),
        )

    def _timeout_ms(self, request: broker_pb2.ProduceRequest) -> int:
        if not request.HasField("timeout"):
            return self._default_timeout_ms
        return duration_ms(request.timeout, "timeout", low=1, high=TIMEOUT_MAX_MS)

    def _choose(self, request: broker_pb2.ProduceRequest, topic: TopicRecord) -> PartitionId:
        """By key; without one, the next partition in turn that has a leader: a batch at a time."""
        count = len(topic.partitions)
        if count > 1 and request.HasField("batch"):
            # Its keys are not looked at, and a key must always go to the same partition.
            raise InvalidArgument("a batch names its partition: the broker does not take it apart", field="partition")
        keyed = partition_of_keys(request.records, count)
        if keyed is not None:
            return keyed
        turn = self._turns.get(topic.name, 0)
        self._turns[topic.name] = turn + 1
        order = [topic.partitions[(turn + step) % count] for step in range(count)]
        led = (partition for partition in order if self._view.host.leader_of(partition.group) is not None)
        return next(led, order[0]).partition


def _check_shape(request: broker_pb2.ProduceRequest) -> None:
    if request.HasField("batch"):
        if request.records:
            raise InvalidArgument("either a batch or plain records, not both", field="records")
    elif not request.records:
        raise InvalidArgument("neither a batch nor records", field="batch")
    if len(request.records) > PLAIN_RECORDS_MAX:
        raise InvalidArgument(
            f"{len(request.records)} plain records, at most {PLAIN_RECORDS_MAX}: make a batch of them", field="records"
        )


def _batch_of(request: broker_pb2.ProduceRequest, topic: TopicRecord) -> CheckedBatch:
    if request.HasField("batch"):
        return check_batch(request.batch, max_batch_bytes=topic.max_batch_bytes)
    made = make_batch(request.records, field="records")
    return check_batch(made, max_batch_bytes=topic.max_batch_bytes, field="records")


def _acks_of(request: broker_pb2.ProduceRequest) -> Acks:
    acks = _ACKS.get(request.acks)
    if acks is None:
        raise InvalidArgument(f"acks {request.acks} is not known here", field="acks")
    return acks


def _receipt(topic: TopicRecord, partition: PartitionId, ack: Ack) -> types_pb2.Receipt:
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
