"""Fetch: batches from an offset on, as they lie in the log."""

from __future__ import annotations

from raftmq.broker.deadlines import CallContext, duration_ms
from raftmq.broker.dispatch import Target
from raftmq.broker.patience import LEADER_WAIT_MS, RESERVE_MS
from raftmq.broker.view import View
from raftmq.errors import InvalidArgument
from raftmq.ids import Offset
from raftmq.ports import BatchRow
from raftmq.records.batch import merge_header
from raftmq.v1 import broker_pb2, types_pb2

OFFSET_MAX = 2**63 - 1
MAX_BYTES_DEFAULT = 1024 * 1024
MAX_BYTES_MAX = 8 * 1024 * 1024
MAX_WAIT_MAX_MS = 60_000
MIN_OFFSET_WAIT_MS = 5_000
_ISOLATION_KNOWN = (types_pb2.ISOLATION_LEVEL_UNSPECIFIED, types_pb2.ISOLATION_LEVEL_READ_COMMITTED)


class Fetching:
    """The method Fetch."""

    def __init__(self, view: View) -> None:
        self._view = view

    def target(self, request: broker_pb2.FetchRequest) -> Target:
        """Where `request` goes; all of it is checked."""
        topic = self._view.topic(request.topic)
        if not request.HasField("partition"):
            raise InvalidArgument("is required", field="partition")
        partition = self._view.partition(topic, request.partition)
        if not request.HasField("offset"):
            raise InvalidArgument("is required: any default could skip or repeat records", field="offset")
        if request.offset > OFFSET_MAX:
            raise InvalidArgument(f"{request.offset} is more than {OFFSET_MAX}", field="offset")
        if request.min_offset > OFFSET_MAX:
            raise InvalidArgument(f"{request.min_offset} is more than {OFFSET_MAX}", field="min_offset")
        _limits(request)
        if request.isolation not in _ISOLATION_KNOWN:
            raise InvalidArgument(f"isolation level {request.isolation} is not known here", field="isolation")
        # The waits for records and for the least watermark come on top of the wait for a leader.
        limit_ms = _max_wait_ms(request) + LEADER_WAIT_MS
        if request.min_offset:
            limit_ms += max(_max_wait_ms(request), MIN_OFFSET_WAIT_MS)
        return Target(partition.group, limit_ms, request.no_forward, any_replica=request.any_replica)

    async def fetch(self, request: broker_pb2.FetchRequest, context: CallContext) -> broker_pb2.FetchResponse:
        """Read as the leader, or from a replica that follows; `target` has passed."""
        topic = self._view.topic(request.topic)
        partition = self._view.partition(topic, request.partition)
        max_bytes, min_bytes = _limits(request)
        host, group, offset, least = (
            self._view.host, partition.group, Offset(request.offset), Offset(request.min_offset)
        )  # fmt: skip
        if request.any_replica and not host.leads(group):
            fetched = await host.fetch_replica(group, offset, max_bytes, min_bytes, _wait_ms(request, context), least)
        else:
            if least:
                await host.reached(group, least, context.within(max(_max_wait_ms(request), MIN_OFFSET_WAIT_MS)))
            fetched = await host.fetch(group, offset, max_bytes, min_bytes, _wait_ms(request, context))
        batches, bounds = fetched.batches, fetched.bounds
        response = broker_pb2.FetchResponse(
            header=self._view.header(partition.group, bounds.term),
            high_watermark=bounds.high_watermark,
            last_stable_offset=bounds.high_watermark,
            log_start_offset=bounds.log_start_offset,
            next_offset=batches[-1].next_offset if batches else request.offset,
        )
        for row in batches:
            _add(response, row)
        return response


def _add(response: broker_pb2.FetchResponse, row: BatchRow) -> None:
    """One batch, its bytes copied once, straight into the response."""
    stored = response.batches.add(
        base_offset=row.base_offset, leader_epoch=row.term, append_time_ms=row.wall_ms, records=row.payload
    )
    merge_header(row.header, into=stored.header)


def _limits(request: broker_pb2.FetchRequest) -> tuple[int, int]:
    """(most, least) bytes."""
    max_bytes = request.max_bytes or MAX_BYTES_DEFAULT
    min_bytes = request.min_bytes or 1
    if max_bytes > MAX_BYTES_MAX:
        raise InvalidArgument(f"{max_bytes} is more than {MAX_BYTES_MAX}", field="max_bytes")
    if min_bytes > max_bytes:
        raise InvalidArgument(f"{min_bytes} is more than max_bytes, {max_bytes}", field="min_bytes")
    return max_bytes, min_bytes


def _wait_ms(request: broker_pb2.FetchRequest, context: CallContext) -> int:
    """How long it may still wait for records."""
    return min(_max_wait_ms(request), max(0, context.remaining_ms - RESERVE_MS))


def _max_wait_ms(request: broker_pb2.FetchRequest) -> int:
    if not request.HasField("max_wait"):
        return 0
    return duration_ms(request.max_wait, "max_wait", low=0, high=MAX_WAIT_MAX_MS)
