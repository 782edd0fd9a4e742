"""raftmq.v1.Broker: records in and out, and what clients need to know to get there."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from raftmq.broker.deadlines import CallContext
from raftmq.broker.dispatch import Entry, StreamEntry
from raftmq.broker.fetching import Fetching
from raftmq.broker.forwarding import Forwarder
from raftmq.broker.offsets import Offsets
from raftmq.broker.produce_stream import produce_stream
from raftmq.broker.producing import Producing
from raftmq.broker.subscribing import subscribe
from raftmq.broker.view import View
from raftmq.errors import InvalidArgument, PreconditionFailed
from raftmq.ids import BootCount
from raftmq.records.batch import PRODUCER_EPOCH_MAX, PRODUCER_ID_MAX
from raftmq.v1 import broker_pb2
from raftmq.version import __version__

API_LEVEL = 4
"""Grows when calls or fields are added."""
INIT_PRODUCER_LIMIT_MS = 10_000


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What this process says of itself."""

    boot_count: BootCount
    max_message_bytes: int
    max_batch_bytes: int
    produce_timeout_ms: int = 30_000


class BrokerService:
    """The methods of ``raftmq.v1.Broker``."""

    def __init__(self, view: View, forwarder: Forwarder, facts: ServerFacts, rng: Random) -> None:
        self._view = view
        self._facts = facts
        self._producing = Producing(view, facts.produce_timeout_ms)
        self._fetching = Fetching(view)
        self._offsets = Offsets(view, forwarder, rng)

    def entries(self) -> dict[str, Entry | StreamEntry]:
        """For the table of methods."""
        return {
            "Broker.Produce": Entry(
                self._producing.produce, reads=False, target=self._producing.target, join=self._producing.join
            ),
            "Broker.ProduceStream": StreamEntry(produce_stream),
            "Broker.Subscribe": StreamEntry(subscribe),
            "Broker.Fetch": Entry(self._fetching.fetch, reads=True, target=self._fetching.target),
            "Broker.ListOffsets": Entry(self._offsets.list_offsets, reads=True),
            "Broker.InitProducer": Entry(self.init_producer, reads=False),
            "Broker.GetMetadata": Entry(self.get_metadata, reads=True),
            "Broker.GetServerInfo": Entry(self.get_server_info, reads=True),
        }

    async def init_producer(
        self, request: broker_pb2.InitProducerRequest, context: CallContext
    ) -> broker_pb2.InitProducerResponse:
        """A new id, or the next epoch of a known one. Each partition learns of an epoch from its first batch, and
        refuses the one before from then on."""
        if request.producer_id == 0:
            if request.producer_epoch:
                raise InvalidArgument("means nothing without a producer id", field="producer_epoch")
            producer_id = await self._view.cluster.allocate_producer_id(context.within(INIT_PRODUCER_LIMIT_MS))
            return broker_pb2.InitProducerResponse(
                header=self._view.controller_header(), producer_id=producer_id, producer_epoch=0
            )
        if request.producer_id > PRODUCER_ID_MAX:
            raise InvalidArgument(f"{request.producer_id} was never given to anybody", field="producer_id")
        if request.producer_epoch >= PRODUCER_EPOCH_MAX:
            raise PreconditionFailed("this producer id has no epochs left: ask for a new one", field="producer_epoch")
        return broker_pb2.InitProducerResponse(
            header=self._view.controller_header(),
            producer_id=request.producer_id,
            producer_epoch=request.producer_epoch + 1,
        )

    async def get_metadata(
        self, request: broker_pb2.GetMetadataRequest, context: CallContext
    ) -> broker_pb2.GetMetadataResponse:
        """A topic that is asked for by name and not known here is left out."""
        await self._view.until_replayed(context)
        image = self._view.cluster.image
        names = sorted(set(request.topics) & image.topics.keys()) if request.topics else sorted(image.topics)
        controller = self._view.cluster.controller()
        return broker_pb2.GetMetadataResponse(
            header=self._view.controller_header(),
            nodes=self._view.nodes(),
            topics=[self._view.topic_info(image.topics[name]) for name in names],
            controller_node_id=0 if controller is None else controller[0],
            metadata_version=image.version,
        )

    async def get_server_info(
        self, _request: broker_pb2.GetServerInfoRequest, _context: CallContext
    ) -> broker_pb2.GetServerInfoResponse:
        return broker_pb2.GetServerInfoResponse(
            header=self._view.controller_header(),
            version=__version__,
            api_level=API_LEVEL,
            boot_count=self._facts.boot_count,
            max_message_bytes=self._facts.max_message_bytes,
            max_batch_bytes=self._facts.max_batch_bytes,
        )
