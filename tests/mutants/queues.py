"""Bugs of queue groups."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import count
from typing import Any

from raftmq import status
from raftmq.broker.queues.dead_letters import DeadLetters
from raftmq.client import settling
from raftmq.client.queue_message import Lease as Holding
from raftmq.client.queue_message import QueueMessage
from raftmq.errors import LeaseExpired, Outcome, OverflowDropped, QueueFull
from raftmq.ids import Offset, QueueId
from raftmq.partition.queues import ops, rows
from raftmq.partition.queues.commands import Status, Verdict
from raftmq.partition.queues.group import Now, QueueGroup
from raftmq.partition.queues.leases import Lease, Leases
from raftmq.partition.queues.machine import Queues
from raftmq.partition.queues.offset_set import OffsetSet
from raftmq.partition.queues.parked import Parked
from raftmq.replica.depth import Depth, Overflows
from raftmq.replica.produce import Leadership
from raftmq.replica.queues.calls import Handover, Ruling
from raftmq.replica.queues.handing import Handing
from raftmq.replica.queues.host import QueueHost
from raftmq.replica.queues.looking import Peeked
from raftmq.replica.together import Together
from tests.mutants.table import Patch, mutant

AREA = "queues"
SETTLING = "tests/client/test_settling.py"
LEASES = "tests/partition/queues/test_leases.py"
ORDER = "tests/partition/queues/test_order_and_time.py"
KEEPING = "tests/partition/queues/test_keeping.py"
TOGETHER = "tests/replica/test_verdicts_with_batch.py"


@mutant(AREA, LEASES, "test_an_acknowledgement_after_the_lease_is_refused_for_that_record_only")
def ack_of_expired_lease_accepted(patch: Patch) -> None:
    """Time does not pass before what an entry asks for: a lease that is over still counts."""
    patch.setattr(Queues, "_pass_time", lambda self, now: None)


@mutant(AREA, LEASES, "test_a_lease_lasts_until_its_deadline")
def lease_expires_early(patch: Patch) -> None:
    """A lease ends a millisecond before its deadline."""
    expire = Leases.expire
    patch.setattr(Leases, "expire", lambda self, log_tick: expire(self, log_tick + 1))
    due = Leases.next_deadline

    def next_deadline(self: Leases) -> int | None:
        deadline = due(self)
        return None if deadline is None else deadline - 1

    patch.setattr(Leases, "next_deadline", next_deadline)


@mutant(AREA, LEASES, "test_another_secret_another_lease_and_another_record_are_late")
def secret_not_compared(patch: Patch) -> None:
    """Whoever guesses the number of a lease may settle it."""
    settle = ops.settle

    def settling(group: QueueGroup, op: Any, now: Now) -> Any:
        lease = group.leases.get(op.lease)
        if lease is not None:
            lease.secret = op.secret
        return settle(group, op, now)

    patch.setattr(ops, "settle", settling)


@mutant(AREA, LEASES, "test_everything_outlives_a_restart")
def acked_redelivered_after_restore(patch: Patch) -> None:
    """What was acknowledged of a page of records is not written down."""
    encode = rows._encode_open

    def encoding(group: QueueGroup, page: int) -> bytes | None:
        everything = OffsetSet()
        everything.add_range(group.start, group.frontier)
        kept, group.open = group.open, everything  # type: ignore[assignment]
        try:
            return encode(group, page)
        finally:
            group.open = kept

    patch.setattr(rows, "_encode_open", encoding)


@mutant(AREA, ORDER, "test_a_keys_next_record_waits_for_the_one_before_and_other_keys_flow_past")
def key_order_ignored(patch: Patch) -> None:
    """A key's next record is handed out while the one before is under way."""
    patch.setattr(QueueGroup, "_key", lambda self, offset: 0)


@mutant(AREA, ORDER, "test_retries_wait_longer_each_time_and_end_with_the_record_parked")
def retry_not_counted(patch: Patch) -> None:
    """A record that fails counts as one that was given back."""

    def failing(group: QueueGroup, offset: int, *_: Any) -> Any:
        group.give_back(offset, _[-1])
        return Status.OK

    patch.setattr(ops, "_fail", failing)


@mutant(AREA, KEEPING, "test_parked_records_outlive_a_restart")
def parked_lost_at_restart(patch: Patch) -> None:
    """Why a record is parked is not written down."""
    patch.setattr(Parked, "encode", lambda self, offset: None)


@mutant(AREA, KEEPING, "test_a_trim_stops_before_what_a_queue_still_needs_until_it_is_held")
def trim_takes_leased_records(patch: Patch) -> None:
    """A trim takes records that a worker has, or that were kept aside."""
    patch.setattr(Queues, "bound", lambda self, wanted: wanted)


@mutant(AREA, LEASES, "test_the_same_verdict_again_is_a_duplicate_and_another_one_is_late")
def another_verdict_is_a_duplicate(patch: Patch) -> None:
    """A worker that says one thing, and then another, is told that all is well."""
    patch.setattr(Lease, "said", lambda self, position, verdict: True)


@mutant(AREA, TOGETHER, "test_work_under_a_key_that_is_known_is_not_published_again")
def known_work_published_again(patch: Patch) -> None:
    """A batch with verdicts does not ask whether its work was done before."""
    patch.setattr(Together, "_remembers", lambda self, group, key: False)


@mutant(AREA, TOGETHER, "test_verdicts_on_other_records_need_not_wait_for_each_other")
def verdicts_under_way_forgotten(patch: Patch) -> None:
    """A leader decides on a batch with verdicts as if those it has proposed already had never been."""
    patch.setattr(Together, "appended", lambda self, index, settles: None)


# -- caught by workers in the simulation -------------------------------------------------------------------------------


@mutant(AREA)
def verdicts_told_taken(patch: Patch) -> None:
    """A leader tells workers that their verdicts count, whatever became of them."""
    settle = QueueHost.settle

    async def settling(self: QueueHost, *asked: Any) -> list[Status]:
        return [Status.OK for _ in await settle(self, *asked)]

    patch.setattr(QueueHost, "settle", settling)


@mutant(AREA, SETTLING, "test_a_lease_is_counted_from_before_it_was_granted")
def lease_counted_from_the_answer(patch: Patch) -> None:
    """A worker believes in its lease from when it heard of it, not from when it asked."""
    init = QueueMessage.__init__

    def beginning(self: QueueMessage, worker: Any, wire: Any, lease: Holding) -> None:
        init(self, worker, wire, Holding(lease.length_ms, asyncio.get_running_loop().time()))

    patch.setattr(QueueMessage, "__init__", beginning)


@mutant(AREA)
def doubtful_verdict_told_refused(patch: Patch) -> None:
    """A client says that a verdict was surely not taken, of which an attempt before may have counted."""
    patch.setattr(settling, "_refusal", lambda error, doubtful: status.from_message(error))


@mutant(AREA)
def leases_never_run_out(patch: Patch) -> None:
    """What a worker took that died stays with it for ever."""
    patch.setattr(Leases, "expire", lambda self, log_tick: [])
    patch.setattr(Leases, "next_deadline", lambda self: None)


@mutant(AREA)
def delivered_at_another_offset(patch: Patch) -> None:
    """A message of a batch that was handed out before comes with the record of its neighbour."""
    deliver = QueueHost._deliver

    async def delivering(self: QueueHost, desk: Any, line: Any, granted: Any, secret: bytes, most: int) -> Any:
        found = await deliver(self, desk, line, granted, secret, most)
        again = {one.offset: one for one in found if one.attempt > 1}
        return [one._replace(record=again.get(Offset(one.offset + 1), one).record) for one in found]

    patch.setattr(QueueHost, "_deliver", delivering)


# -- acknowledged and published in one step ----------------------------------------------------------------------------


@mutant(AREA)
def published_without_its_verdicts(patch: Patch) -> None:
    """A result is published, and the verdicts of its entry are left out."""
    draft = Together.draft

    def drafting(self: Together, batch: Any, stamp: Any, settles: Any) -> Any:
        draft(self, batch, stamp, settles)
        return draft(self, batch, stamp, ())

    patch.setattr(Together, "draft", drafting)


@mutant(AREA)
def published_on_a_lease_that_is_over(patch: Patch) -> None:
    """Nobody asks whether the verdicts that go with a batch will count."""
    patch.setattr(Queues, "objection", lambda self, settles, log_tick: "")


@mutant(AREA)
def acknowledged_in_an_entry_of_its_own(patch: Patch) -> None:
    """A leader acknowledges first, and publishes then."""

    async def handing_over(self: QueueHost, group_id: Any, group: Any, asked: Handover, timeout_ms: int) -> Any:
        ruling = Ruling(Verdict.ACK, processed_keys=tuple(asked.processed_keys))
        statuses = await self.settle(group_id, group, asked.claims, ruling, timeout_ms)
        if Status.LEASE_EXPIRED in statuses:
            raise LeaseExpired("the lease is over", outcome=Outcome.UNKNOWN)
        found = [at for at, status in enumerate(statuses) if status is Status.ALREADY_PROCESSED]
        if found:
            return found
        return await self._log.intake.produce(group_id, asked.batch, asked.acks, asked.min_in_sync, timeout_ms)

    patch.setattr(QueueHost, "hand_over", handing_over)


@mutant(AREA)
def only_one_lease_of_several(patch: Patch) -> None:
    """Of messages that are handed over together, and came under different leases, those of the first one count."""
    settles = Handing._settles
    patch.setattr(Handing, "_settles", lambda self, queue: settles(self, queue)[:1])


@mutant(AREA)
def work_done_before_not_acknowledged(patch: Patch) -> None:
    """A worker is told that its work was done before, and the message stays with it."""
    hand_over = QueueHost.hand_over

    async def handing_over(self: QueueHost, group_id: Any, group: Any, asked: Handover, timeout_ms: int) -> Any:
        processed = self.desk_of(group_id).machine.queues.groups[QueueId(group.id)].processed
        found = [(at, processed.get(key)) for at, key in enumerate(asked.processed_keys)]
        known = [at for at, one in found if one is not None and one.offset != asked.claims[at].offset]
        return known or await hand_over(self, group_id, group, asked, timeout_ms)

    patch.setattr(QueueHost, "hand_over", handing_over)


@mutant(AREA)
def doubtful_call_told_refused(patch: Patch) -> None:
    """A client tells of its last attempt only, whatever may have become of those before."""
    patch.setattr(settling, "with_outcome", lambda error, outcome: error)


# -- dead letters ------------------------------------------------------------------------------------------------------


@mutant(AREA)
def letters_taken_for_sent(patch: Patch) -> None:
    """A dead letter counts as copied whatever became of its copy."""
    send = DeadLetters._send

    async def sending(self: DeadLetters, *letter: Any) -> bool:
        await send(self, *letter)
        return True

    patch.setattr(DeadLetters, "_send", sending)


@mutant(AREA)
def letters_sent_under_new_ids(patch: Patch) -> None:
    """A dead letter that is copied again is another message each time."""
    send, attempts = DeadLetters._send, count()

    async def sending(self: DeadLetters, topic: Any, partition: Any, group: Any, letter: Peeked, record: Any) -> bool:
        anew = replace(letter, parked_tick=letter.parked_tick + next(attempts))
        return await send(self, topic, partition, group, anew, record)

    patch.setattr(DeadLetters, "_send", sending)


@mutant(AREA)
def letters_tried_once(patch: Patch) -> None:
    """A leader copies each dead letter once, and never looks back."""
    look = DeadLetters._look

    async def looking(self: DeadLetters, topic: Any, partition: Any, group: Any) -> None:
        place = (group.id, partition.group)
        before = self._next.get(place, 0)
        seen = await self._view.queues.unrouted(partition.group, group, before, 100)
        await look(self, topic, partition, group)
        self._next[place] = seen[-1].offset + 1 if seen else before

    patch.setattr(DeadLetters, "_look", looking)


@mutant(AREA)
def letter_of_another(patch: Patch) -> None:
    """Of several dead letters each is copied with the record of the first."""
    unrouted = QueueHost.unrouted

    async def mixing(self: QueueHost, *asked: Any) -> list[Peeked]:
        found = await unrouted(self, *asked)
        return [replace(one, record=found[0].record) for one in found]

    patch.setattr(QueueHost, "unrouted", mixing)


# -- depth -------------------------------------------------------------------------------------------------------------


@mutant(AREA)
def partition_half_as_deep(patch: Patch) -> None:
    """A leader takes a partition for half as deep as it is."""
    beyond = Depth.beyond
    patch.setattr(Depth, "beyond", lambda self, limit, part=1, whole=1: beyond(self, limit, 2 * part, whole))


@mutant(AREA)
def refused_and_stored(patch: Patch) -> None:
    """A batch that there is no room for is refused, and stored all the same."""
    make_room = Leadership._make_room

    def making(self: Leadership, batch: Any, room: Any, draft: Any) -> None:
        try:
            make_room(self, batch, room, draft)
        except (QueueFull, OverflowDropped):
            self._append(draft)
            raise

    patch.setattr(Leadership, "_make_room", making)


@mutant(AREA)
def refused_records_not_counted(patch: Patch) -> None:
    """Nobody counts what there was no room for."""
    patch.setattr(Overflows, "refuse", lambda *_: None)


@mutant(AREA)
def dropped_records_not_counted(patch: Patch) -> None:
    """Nobody counts what gave way."""
    patch.setattr(Overflows, "drop", lambda *_: None)
