"""Bugs of the client library."""

from __future__ import annotations

from typing import Any

from raftmq.client import sender
from raftmq.client.accumulator import ClientBatch
from raftmq.client.fetcher import PartitionFetcher
from raftmq.client.retry import with_outcome
from raftmq.client.sender import PartitionSender
from raftmq.client.types import RecordReceipt
from raftmq.errors import Outcome
from tests.mutants.table import Patch, mutant

AREA = "client"


@mutant(AREA)
def new_number_for_a_retry(patch: Patch) -> None:
    """A batch that is sent again gets the next sequence number."""

    def number(self: PartitionSender, batch: ClientBatch) -> None:
        if self._settings.idempotent:
            assert self._identity is not None
            batch.sequence = None
            batch.number(self._identity, self._next_sequence)
            self._next_sequence += batch.count

    patch.setattr(PartitionSender, "_number", number)


@mutant(AREA, "tests/client/test_producer.py", "test_without_idempotence_nothing_is_sent_again_from_the_window_either")
def repeat_what_is_unknown(patch: Patch) -> None:
    """A producer without idempotence sends again what may have been stored."""
    patch.setattr(ClientBatch, "note", lambda self, outcome: None)


@mutant(AREA)
def failure_told_for_certain(patch: Patch) -> None:
    """Whatever became of a batch, its owner is told that it was not stored."""
    patch.setattr(sender, "with_outcome", lambda error, outcome: with_outcome(error, Outcome.NOT_APPLIED))


@mutant(AREA)
def window_taken_back_in_reverse(patch: Patch) -> None:
    """Batches that must be sent again are queued the wrong way round."""

    def take_back(self: PartitionSender) -> None:
        window, self._window = self._window, []
        for batch in window:
            self._sealed.appendleft(batch)

    patch.setattr(PartitionSender, "_take_back", take_back)


@mutant(AREA, "tests/client/test_producer.py", "test_what_was_under_way_behind_it_is_raised_too")
def doubtful_batch_numbered_anew(patch: Patch) -> None:
    """After a failure a batch that may have been stored goes on under another epoch."""

    def unnumber(self: ClientBatch) -> None:
        self.sequence = None

    give_up = PartitionSender._give_up

    def giving_up(self: PartitionSender, batch: ClientBatch, error: Any) -> None:
        for other in self._sealed:
            if other is not batch:
                other.outcome = Outcome.NOT_APPLIED
        give_up(self, batch, error)

    patch.setattr(ClientBatch, "unnumber", unnumber)
    patch.setattr(PartitionSender, "_give_up", giving_up)


@mutant(AREA)
def receipts_one_off(patch: Patch) -> None:
    """The second record of a batch is given the first one's offset."""
    offset = RecordReceipt.offset.fget  # type: ignore[attr-defined]

    def wrong(self: RecordReceipt) -> Any:
        found = offset(self)
        return found if found is None else self.batch.base_offset

    patch.setattr(RecordReceipt, "offset", property(wrong))


@mutant(AREA, "tests/client/test_consumer.py", "test_where_it_starts")
def batch_read_from_its_start(patch: Patch) -> None:
    """A consumer that starts within a batch is given all of it."""
    decode = PartitionFetcher._decode

    def decoding(self: PartitionFetcher, stored: Any, high_watermark: int) -> Any:
        wanted = self._fetch_offset
        self._fetch_offset = min(wanted, stored.base_offset)
        try:
            return decode(self, stored, high_watermark)
        finally:
            self._fetch_offset = max(wanted, self._fetch_offset)

    patch.setattr(PartitionFetcher, "_decode", decoding)
