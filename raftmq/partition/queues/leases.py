"""Leases: who has which records until when, and what was said of them.

One lease is one grant. Its records are told apart by their position among its offsets, and what is known of them is a
mask of bits each, so a lease of a hundred neighbours that was settled whole is changed with a few operations.

A lease is kept when all of it is settled, until its deadline or until there are many, so that an answer which was lost
on its way can be given again: the same verdict by the same lease is a duplicate, not an error.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator
from heapq import heappop, heappush

from raftmq.ids import LeaseId
from raftmq.internal.v1 import queues_pb2
from raftmq.partition.queues.commands import SECRET_BYTES, Verdict

SETTLED_MAX = 4096
"""Leases kept although all of them is settled: the newest. Frozen: replicas must forget alike."""


class Lease:
    """Invariant: `outstanding` and the verdicts are disjoint, and make up all positions unless a record was taken from
    the lease (its group was told to begin anew)."""

    __slots__ = ("deadline", "offsets", "outstanding", "secret", "verdicts", "worker")

    def __init__(self, worker: str, secret: bytes, deadline: int, offsets: array[int]) -> None:
        self.worker = worker
        self.secret = secret
        self.deadline = deadline
        """Log tick from which on it is over."""
        self.offsets = offsets
        """Ascending."""
        self.outstanding = (1 << len(offsets)) - 1
        """Positions of which nothing was said yet."""
        self.verdicts: dict[int, int] | None = None
        """By verdict: positions. None: nothing was said yet, which takes less room."""

    def position(self, offset: int) -> int | None:
        """Of an offset, if it is one of this lease."""
        at = bisect_left(self.offsets, offset)
        return at if at < len(self.offsets) and self.offsets[at] == offset else None

    def settle(self, mask: int, verdict: Verdict) -> None:
        """`verdict` on the positions in `mask`, which are outstanding."""
        self.outstanding &= ~mask
        if self.verdicts is None:
            self.verdicts = {}
        self.verdicts[verdict] = self.verdicts.get(verdict, 0) | mask

    def said(self, position: int, verdict: Verdict) -> bool:
        """Whether `verdict` was said of that position."""
        return bool((self.verdicts or {}).get(verdict, 0) >> position & 1)

    def open_offsets(self) -> list[int]:
        """Offsets of which nothing was said yet, ascending."""
        mask = self.outstanding
        if mask == (1 << len(self.offsets)) - 1:
            return self.offsets.tolist()
        return [offset for position, offset in enumerate(self.offsets) if mask >> position & 1]

    def encode(self) -> bytes:
        """A serialised QueueLeaseRow; the lease's number is its key."""
        said = (self.verdicts or {}).get
        return queues_pb2.QueueLeaseRow(
            worker=self.worker,
            secret=self.secret,
            deadline=self.deadline,
            offsets=self.offsets,
            outstanding=to_bytes(self.outstanding),
            acked=to_bytes(said(Verdict.ACK, 0)),
            released=to_bytes(said(Verdict.RELEASE, 0)),
            retried=to_bytes(said(Verdict.RETRY, 0)),
            parked=to_bytes(said(Verdict.PARK, 0)),
        ).SerializeToString()

    @classmethod
    def decode(cls, value: bytes) -> Lease:
        """Raises ValueError, DecodeError."""
        row = queues_pb2.QueueLeaseRow.FromString(value)
        lease = cls(row.worker, row.secret, row.deadline, array("Q", row.offsets))
        lease.outstanding = int.from_bytes(row.outstanding, "little")
        stored = {
            Verdict.ACK: row.acked, Verdict.RELEASE: row.released, Verdict.RETRY: row.retried, Verdict.PARK: row.parked,
        }  # fmt: skip
        lease.verdicts = {verdict: int.from_bytes(mask, "little") for verdict, mask in stored.items() if mask} or None
        masks = [lease.outstanding, *(lease.verdicts or {}).values()]
        if max(masks) >> len(lease.offsets) or list(lease.offsets) != sorted(set(lease.offsets)):
            raise ValueError("a lease whose records cannot be told apart")
        if len(lease.secret) != SECRET_BYTES:
            raise ValueError(f"a lease with a secret of {len(lease.secret)} bytes")
        return lease


class Leases:
    """The leases of a group, by number."""

    def __init__(self) -> None:
        self._leases: dict[LeaseId, Lease] = {}
        self._workers: dict[str, str] = {}
        """Each name once, however many leases it has."""
        # Heaps. What is no longer true in them is skipped when it comes to the top.
        self._ends: list[tuple[int, LeaseId]] = []
        """(deadline, number) of every lease."""
        self._due: list[tuple[int, LeaseId]] = []
        """The same of those with outstanding records."""
        self._settled: list[LeaseId] = []
        self._settled_count = 0
        self.outstanding = 0
        """Records that are leased."""
        self.changed: set[LeaseId] = set()

    def __len__(self) -> int:
        return len(self._leases)

    def __iter__(self) -> Iterator[tuple[LeaseId, Lease]]:
        """By number."""
        return iter(sorted(self._leases.items(), key=lambda item: item[0]))

    def get(self, lease_id: LeaseId) -> Lease | None:
        return self._leases.get(lease_id)

    def add(self, lease_id: LeaseId, lease: Lease) -> None:
        """Take over a lease."""
        lease.worker = self._workers.setdefault(lease.worker, lease.worker)
        self._leases[lease_id] = lease
        self.outstanding += lease.outstanding.bit_count()
        self._push(lease_id, lease)
        if lease.outstanding == 0:
            self._note_settled(lease_id)
        self.changed.add(lease_id)

    def settle(self, lease_id: LeaseId, lease: Lease, mask: int, verdict: Verdict) -> None:
        """`verdict` on the positions in `mask`, which are outstanding. Forgets the oldest of too many settled ones."""
        lease.settle(mask, verdict)
        self.outstanding -= mask.bit_count()
        self.changed.add(lease_id)
        if lease.outstanding == 0:
            self._note_settled(lease_id)

    def extend(self, lease_id: LeaseId, lease: Lease, deadline: int) -> None:
        """It is over later."""
        lease.deadline = deadline
        self._push(lease_id, lease)
        self.changed.add(lease_id)

    def next_deadline(self) -> int | None:
        """The first log tick at which a lease with outstanding records is over."""
        while self._due:
            deadline, lease_id = self._due[0]
            lease = self._leases.get(lease_id)
            if lease is not None and lease.deadline == deadline and lease.outstanding:
                return deadline
            heappop(self._due)
        return None

    def expire(self, log_tick: int) -> list[Lease]:
        """Forget the leases that are over at `log_tick`; returns them, by deadline and number."""
        over: list[Lease] = []
        while self._ends and self._ends[0][0] <= log_tick:
            deadline, lease_id = heappop(self._ends)
            lease = self._leases.get(lease_id)
            if lease is None or lease.deadline != deadline:
                continue
            self._forget(lease_id, lease)
            over.append(lease)
        return over

    def _push(self, lease_id: LeaseId, lease: Lease) -> None:
        end = (lease.deadline, lease_id)
        heappush(self._ends, end)
        heappush(self._due, end)

    def _note_settled(self, lease_id: LeaseId) -> None:
        self._settled_count += 1
        heappush(self._settled, lease_id)
        while self._settled_count > SETTLED_MAX:
            oldest = heappop(self._settled)
            lease = self._leases.get(oldest)
            if lease is not None:
                self._forget(oldest, lease)
        if len(self._settled) > 2 * SETTLED_MAX:
            self._settled = [lease_id for lease_id in sorted(self._settled) if lease_id in self._leases]

    def _forget(self, lease_id: LeaseId, lease: Lease) -> None:
        del self._leases[lease_id]
        self.outstanding -= lease.outstanding.bit_count()
        self._settled_count -= lease.outstanding == 0
        self.changed.add(lease_id)
        if len(self._ends) > 2 * len(self._leases) + SETTLED_MAX:
            self._ends = sorted(end for end in self._ends if self._is_true(end))
            self._due = sorted(end for end in self._due if self._is_true(end))
        if len(self._workers) > 2 * len(self._leases) + SETTLED_MAX:
            self._workers = {lease.worker: lease.worker for lease in self._leases.values()}

    def _is_true(self, end: tuple[int, LeaseId]) -> bool:
        lease = self._leases.get(end[1])
        return lease is not None and lease.deadline == end[0]


def to_bytes(mask: int) -> bytes:
    """A mask as few bytes as hold it, the lowest ones first."""
    return mask.to_bytes((mask.bit_length() + 7) // 8, "little")
