"""A topic as a client wants it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """0 stands for the cluster's default everywhere."""

    name: str
    partitions: int = 0
    replication_factor: int = 0
    min_in_sync_replicas: int = 0
    max_batch_bytes: int = 0
    validate_only: bool = False
    """Decide, but create nothing; the record returned is what would be created."""
