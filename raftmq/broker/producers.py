"""Producers' identities: InitProducer gives them out, DescribeProducers says what partitions remember of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import nsmallest
from typing import Self

from raftmq.broker.deadlines import CallContext
from raftmq.broker.leaders import LIMIT_MS, Leaders, Question
from raftmq.broker.view import View
from raftmq.errors import InvalidArgument, NotLeader, PreconditionFailed
from raftmq.ids import NodeId, ProducerId, Term
from raftmq.metadata.decisions import PRODUCER_ID_BLOCK
from raftmq.metadata.image import PartitionRecord
from raftmq.partition.machine import PartitionMachine
from raftmq.partition.producers import ProducerState
from raftmq.records.batch import PRODUCER_EPOCH_MAX, PRODUCER_ID_MAX
from raftmq.v1 import broker_pb2

DESCRIBE = "/raftmq.v1.Broker/DescribeProducers"
INIT_LIMIT_MS = 10_000
INIT_MAX = PRODUCER_ID_BLOCK
"""Producers in one call."""
DEFAULT_PAGE = 1_000
MAX_PAGE = 10_000


class Producers:
    """The methods InitProducer and DescribeProducers."""

    def __init__(self, view: View, leaders: Leaders) -> None:
        self._view = view
        self._leaders = leaders

    async def init_producer(
        self, request: broker_pb2.InitProducerRequest, context: CallContext
    ) -> broker_pb2.InitProducerResponse:
        """New ids, or the next epoch of a known one. Each partition learns of an epoch from its first batch, and
        refuses the one before from then on."""
        if request.count > INIT_MAX:
            raise InvalidArgument(f"{request.count} producers, at most {INIT_MAX}", field="count")
        if request.producer_id == 0:
            if request.producer_epoch:
                raise InvalidArgument("means nothing without a producer id", field="producer_epoch")
            return await self._new(request.count or 1, context)
        if request.count > 1:
            raise InvalidArgument("an epoch is of one producer: ask for each by itself", field="count")
        if request.producer_id > PRODUCER_ID_MAX:
            raise InvalidArgument(f"{request.producer_id} was never given to anybody", field="producer_id")
        if request.producer_epoch >= PRODUCER_EPOCH_MAX:
            raise PreconditionFailed("this producer id has no epochs left: ask for a new one", field="producer_epoch")
        return broker_pb2.InitProducerResponse(
            header=self._view.controller_header(),
            producer_id=request.producer_id,
            producer_epoch=request.producer_epoch + 1,
            count=1,
        )

    async def _new(self, count: int, context: CallContext) -> broker_pb2.InitProducerResponse:
        first = await self._view.cluster.allocate_producer_ids(count, context.within(INIT_LIMIT_MS))
        return broker_pb2.InitProducerResponse(header=self._view.controller_header(), producer_id=first, count=count)

    async def describe_producers(
        self, request: broker_pb2.DescribeProducersRequest, context: CallContext
    ) -> broker_pb2.DescribeProducersResponse:
        topic = self._view.topic(request.topic)
        page = _Page.of(request)
        if request.HasField("after"):
            self._view.partition(topic, request.after.partition, "after.partition")
        wanted = [one for one in self._leaders.wanted(request.partitions, topic) if one.partition >= page.partition]
        cut_short: list[NodeId] = []

        async def here(partition: PartitionRecord, within: CallContext) -> broker_pb2.PartitionProducers:
            return await self._remembered(partition, page, within)

        async def elsewhere(
            node: NodeId, partitions: list[PartitionRecord], within: CallContext
        ) -> Sequence[broker_pb2.PartitionProducers]:
            asked = broker_pb2.DescribeProducersRequest()
            asked.CopyFrom(request)
            asked.partitions[:] = [one.partition for one in partitions]
            data = await self._leaders.hand_on(node, DESCRIBE, asked.SerializeToString(), within)
            answer = broker_pb2.DescribeProducersResponse.FromString(data)
            if not answer.HasField("next"):
                return answer.partitions
            # Its page is full, so whatever lies behind it is not on this page, whoever leads it.
            cut_short.append(node)
            behind = (one.partition for one in partitions if one.partition > answer.next.partition)
            return [*answer.partitions, *(broker_pb2.PartitionProducers(partition=number) for number in behind)]

        found = await self._leaders.ask(Question(here, elsewhere), wanted, context.narrowed(LIMIT_MS))
        partitions, following = page.cut([found[number] for number in sorted(found)], bool(cut_short))
        return broker_pb2.DescribeProducersResponse(header=self._view.header(), partitions=partitions, next=following)

    async def _remembered(
        self, partition: PartitionRecord, page: _Page, context: CallContext
    ) -> broker_pb2.PartitionProducers:
        """What the leader, which is this node, knows once a quorum has confirmed it. One more than fits on the page."""
        bounds = await self._view.host.bounds(partition.group, context.within(LIMIT_MS))
        group = self._view.host.replicas.group(partition.group)
        if group is None:
            raise NotLeader("this node has no replica of the partition any more")
        assert isinstance(group.machine, PartitionMachine), "a topic's partitions hold records"
        return _told(partition, bounds.term, group.machine, page)


@dataclass(frozen=True, slots=True)
class _Page:
    """Which producers are wanted."""

    size: int
    only: ProducerId
    """0: all."""
    partition: int
    producer: int
    """Behind this one of `partition`."""

    @classmethod
    def of(cls, request: broker_pb2.DescribeProducersRequest) -> Self:
        """Raises InvalidArgument."""
        if request.page_size > MAX_PAGE:
            raise InvalidArgument(f"{request.page_size} producers, at most {MAX_PAGE}", field="page_size")
        if request.producer_id > PRODUCER_ID_MAX:
            raise InvalidArgument(f"{request.producer_id} was never given to anybody", field="producer_id")
        size = request.page_size or DEFAULT_PAGE
        return cls(size, ProducerId(request.producer_id), request.after.partition, request.after.producer_id)

    def of_partition(self, partition: int, machine: PartitionMachine) -> list[tuple[ProducerId, ProducerState]]:
        """The first that are wanted of a partition, by id: one more than there is room for, if there are so many."""
        behind = self.producer if partition == self.partition else 0
        known = machine.producers
        if not self.only:
            return nsmallest(self.size + 1, (one for one in known if one[0] > behind), key=lambda one: one[0])
        state = known.get(self.only, machine.log_tick)
        return [(self.only, state)] if state is not None and self.only > behind else []

    def cut(
        self, told: list[broker_pb2.PartitionProducers], more: bool
    ) -> tuple[list[broker_pb2.PartitionProducers], broker_pb2.ProducerPosition | None]:
        """As much as fits, and where it ends if that is not all. `more`: what was told was itself cut, at this size."""
        kept: list[broker_pb2.PartitionProducers] = []
        end: broker_pb2.ProducerPosition | None = None
        room = self.size
        for one in told:
            if room == 0 and (more or one.producers):
                return kept, end
            fits = one.producers[:room]
            kept.append(
                broker_pb2.PartitionProducers(partition=one.partition, leader_epoch=one.leader_epoch, producers=fits)
            )
            room -= len(fits)
            if fits:
                end = broker_pb2.ProducerPosition(partition=one.partition, producer_id=fits[-1].producer_id)
            if len(fits) < len(one.producers):
                return kept, end
        return kept, end if more else None


def _told(
    partition: PartitionRecord, term: Term, machine: PartitionMachine, page: _Page
) -> broker_pb2.PartitionProducers:
    answer = broker_pb2.PartitionProducers(partition=partition.partition, leader_epoch=term)
    for producer, state in page.of_partition(partition.partition, machine):
        last = state.batches[-1]
        told = answer.producers.add(
            producer_id=producer,
            producer_epoch=state.epoch,
            first_sequence=state.batches[0].first_sequence,
            last_sequence=last.next_sequence - 1,
            last_offset=last.base_offset + last.count - 1,
        )
        told.last_appended.FromMilliseconds(last.wall_ms)
        told.expires_in.FromMilliseconds(machine.producers.expiry_ms - (machine.log_tick - state.log_tick))
    return answer
