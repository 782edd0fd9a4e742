"""What a producer was asked to be."""

from __future__ import annotations

from dataclasses import dataclass

from raftmq.client.types import Acks, Compression

BATCH_HEADER_BYTES = 128
"""Upper bound of the header that is sent beside the records."""


@dataclass(frozen=True, slots=True)
class ProducerSettings:
    """See `Client.producer`. Times in milliseconds."""

    acks: Acks
    linger_ms: float
    max_batch_bytes: int
    max_batch_records: int
    max_in_flight: int
    delivery_timeout_ms: int
    request_timeout_ms: int
    idempotent: bool
    compression: Compression
    stream: bool = False
    """Batches travel on ProduceStream."""
