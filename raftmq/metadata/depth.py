"""How deep the partitions of a topic may become: the setting, as it stands in the metadata. Pure.

What it means for a record that wants in is decided by ``raftmq.replica.depth``.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import IntEnum

from raftmq.errors import InvalidArgument
from raftmq.internal.v1 import storage_pb2
from raftmq.records.poison import PoisonEntry

LIMIT_MAX = 2**62
SAMPLE_DEFAULT = 10
SAMPLE_MAX = 1_000_000


class Overflow(IntEnum):
    """What becomes of records for a partition that is as deep as it may be. The numbers are those of the API."""

    REJECT = 1
    BLOCK = 2
    DROP_OLDEST = 3
    SAMPLE = 4
    DROP_LOWEST_PRIORITY = 5


@dataclass(frozen=True, slots=True)
class DepthLimit:
    """Of each partition of a topic. 0: without limit."""

    max_records: int = 0
    max_bytes: int = 0
    max_age_ms: int = 0
    overflow: Overflow = Overflow.REJECT
    sample_one_in: int = SAMPLE_DEFAULT

    def __bool__(self) -> bool:
        """There is a limit."""
        return bool(self.max_records or self.max_bytes or self.max_age_ms)


NO_LIMIT = DepthLimit()


@dataclass(frozen=True, slots=True)
class DepthWish:
    """What somebody wants of a limit; None: as it is. 0 of ``overflow`` and ``sample_one_in``: the default."""

    max_records: int | None = None
    max_bytes: int | None = None
    max_age_ms: int | None = None
    overflow: int | None = None
    sample_one_in: int | None = None

    def settled(self, present: DepthLimit = NO_LIMIT) -> DepthLimit:
        """`present` with what is wanted. Raises InvalidArgument."""
        told = {one.name: value for one in fields(self) if (value := getattr(self, one.name)) is not None}
        for name in ("max_records", "max_bytes", "max_age_ms"):
            if not 0 <= told.get(name, 0) <= LIMIT_MAX:
                raise InvalidArgument(f"{told[name]} is not in 0 to {LIMIT_MAX}", field=f"depth.{name}")
        if "overflow" in told:
            try:
                told["overflow"] = Overflow(told["overflow"] or Overflow.REJECT)
            except ValueError:
                raise InvalidArgument(f"policy {told['overflow']} is not known here", field="depth.overflow") from None
        if "sample_one_in" in told:
            told["sample_one_in"] = told["sample_one_in"] or SAMPLE_DEFAULT
            if not 2 <= told["sample_one_in"] <= SAMPLE_MAX:
                raise InvalidArgument(
                    f"{told['sample_one_in']} is not in 2 to {SAMPLE_MAX}", field="depth.sample_one_in"
                )
        return replace(present, **told)


def depth_to_proto(limit: DepthLimit) -> storage_pb2.DepthLimit | None:
    """None where it says nothing: so the bytes of older events stay what they were."""
    if limit == NO_LIMIT:
        return None
    return storage_pb2.DepthLimit(
        max_records=limit.max_records,
        max_bytes=limit.max_bytes,
        max_age_ms=limit.max_age_ms,
        overflow=limit.overflow,
        sample_one_in=limit.sample_one_in,
    )


def depth_from_proto(message: storage_pb2.DepthLimit) -> DepthLimit:
    """Raises PoisonEntry. An empty message is no limit."""
    try:
        overflow = Overflow(message.overflow or Overflow.REJECT)
    except ValueError:
        raise PoisonEntry(f"overflow policy {message.overflow}, which this version does not know") from None
    return DepthLimit(
        message.max_records,
        message.max_bytes,
        message.max_age_ms,
        overflow,
        message.sample_one_in or SAMPLE_DEFAULT,
    )
