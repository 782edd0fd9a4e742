"""AckAndPublish: messages acknowledged, and what became of them appended to their partition, as one entry of its log.

The batch is given a message id that follows from the tokens. So a repeated call is a duplicate, told as one whatever
has become of the leases since; and no token can be guessed from it, nor it without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from raftmq.broker.deadlines import CallContext, duration_ms
from raftmq.broker.dispatch import Entry, Target
from raftmq.broker.producing import PLAIN_RECORDS_MAX, TIMEOUT_MAX_MS, acks_of, receipt_of
from raftmq.broker.queues.groups import QueueGroupMethods
from raftmq.broker.queues.tokens import claim, partition_of
from raftmq.broker.queues.verdicts import check_keys
from raftmq.broker.view import View
from raftmq.errors import InvalidArgument
from raftmq.records.batch import CheckedBatch, check_batch, make_batch
from raftmq.replica.queues.calls import Handover
from raftmq.replica.waits import Ack, Acks
from raftmq.v1 import queue_pb2

TOKENS_MAX = 1_000
"""They are stored with the batch's header, which is read whole wherever the batch is."""
LIMIT_MS = 10_000
"""Of a call that names no time."""


class HandingOver:
    """The method AckAndPublish."""

    def __init__(self, view: View, groups: QueueGroupMethods) -> None:
        self._view = view
        self._groups = groups

    def entries(self) -> dict[str, Entry]:
        return {"Queue.AckAndPublish": Entry(self.ack_and_publish, reads=False, target=self.target)}

    def target(self, request: queue_pb2.AckAndPublishRequest) -> Target:
        """Where `request` goes; all of it but the records is checked."""
        topic = self._view.topic(request.topic)
        if not request.group:
            raise InvalidArgument("names no group", field="group")
        _check(request)
        number = partition_of(request.tokens[0], 0)
        for position, token in enumerate(request.tokens):
            if partition_of(token, position) != number:
                raise InvalidArgument("is of another partition than the first", field=f"tokens[{position}]")
        if number >= len(topic.partitions):
            raise InvalidArgument("is of no partition of this topic", field="tokens[0]")
        self._groups.group(request.topic, request.group)
        return Target(topic.partitions[number].group, _timeout_ms(request))

    async def ack_and_publish(
        self, request: queue_pb2.AckAndPublishRequest, context: CallContext
    ) -> queue_pb2.AckAndPublishResponse:
        """As the leader of the partition of all tokens; `target` has passed."""
        topic = self._view.topic(request.topic)
        partition = self._view.partition(topic, partition_of(request.tokens[0], 0), "tokens[0]")
        group = self._groups.group(request.topic, request.group)
        handover = Handover(
            [claim(token) for token in request.tokens],
            tuple(request.processed_keys),
            _batch_of(request, topic.max_batch_bytes),
            acks_of(request),
            topic.min_in_sync_replicas,
            topic.depth,
        )
        timeout_ms = context.within(_timeout_ms(request))
        try:
            told = await self._view.queues.hand_over(partition.group, group, handover, timeout_ms)
        except InvalidArgument as error:
            if error.field == "message_id":
                raise InvalidArgument(
                    "these messages have been acknowledged with other records before", field="records"
                ) from error
            raise
        if isinstance(told, Ack):
            return queue_pb2.AckAndPublishResponse(
                header=self._view.header(partition.group, told.term),
                receipt=receipt_of(topic, partition.partition, told),
            )
        return queue_pb2.AckAndPublishResponse(header=self._view.header(partition.group), already_processed=told)


def _batch_of(request: queue_pb2.AckAndPublishRequest, max_batch_bytes: int) -> CheckedBatch:
    """The records, under an id that the same tokens always have."""
    message_id = f"ack-{sha256(b''.join(request.tokens)).hexdigest()[:32]}"
    made = make_batch(request.records, message_id=message_id)
    return check_batch(made, max_batch_bytes=max_batch_bytes, field="records")


def _timeout_ms(request: queue_pb2.AckAndPublishRequest) -> int:
    if not request.HasField("timeout"):
        return LIMIT_MS
    return duration_ms(request.timeout, "timeout", low=1, high=TIMEOUT_MAX_MS)


def _check(request: queue_pb2.AckAndPublishRequest) -> None:
    if not 1 <= len(request.tokens) <= TOKENS_MAX:
        raise InvalidArgument(f"{len(request.tokens)} of them, not 1 to {TOKENS_MAX}", field="tokens")
    if not 1 <= len(request.records) <= PLAIN_RECORDS_MAX:
        raise InvalidArgument(f"{len(request.records)} of them, not 1 to {PLAIN_RECORDS_MAX}", field="records")
    if acks_of(request) not in (Acks.ALL, Acks.QUORUM):
        raise InvalidArgument("an acknowledgement counts once it is committed: ALL or QUORUM", field="acks")
    _once(request.tokens, "tokens")
    check_keys(request.processed_keys, len(request.tokens))
    _once(request.processed_keys, "processed_keys")
    _timeout_ms(request)


def _once(values: Sequence[bytes], field: str) -> None:
    seen: set[bytes] = set()
    for position, value in enumerate(values):
        if value and value in seen:
            raise InvalidArgument("is there twice", field=f"{field}[{position}]")
        seen.add(value)
