"""What a partition's log says that became of its queue groups: who was granted what, and which verdicts counted.

The committed entries are applied once more, from the first one on. What workers were told must agree with it. It also
tells what no worker knows: where in the row of leases a group began anew, and when a message that was parked was driven
again. Both begin another *life* of a message, in which it may be handed out again although it was done; a history is
taken apart there, so that the checks, which know no operators, judge each life by itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from raftmq.chaos.history import FOREIGN, Outcome
from raftmq.chaos.queue_events import ENDED, Left, Message, Queue
from raftmq.ids import QueueId, Term
from raftmq.partition import commands
from raftmq.partition.machine import PartitionMachine
from raftmq.partition.queues import codec
from raftmq.partition.queues.commands import (
    Done,
    Granted,
    Hold,
    QueueAnswer,
    QueueCommand,
    QueueOp,
    Redriven,
    Routed,
    Settle,
    Settled,
    Sought,
    Status,
    Verdict,
)
from raftmq.partition.queues.group import QueueGroup
from raftmq.raft.types import EntryKind
from raftmq.records.batch import VERDICTS_VERSION, decode_records
from raftmq.records.entry import LogEntry
from raftmq.sim.oracle import Partition
from raftmq.sim.queueing import QueuePlan
from raftmq.v1 import types_pb2

ACCEPTED = frozenset({Status.OK, Status.DUPLICATE, Status.PARKED, Status.DROPPED, Status.ALREADY_PROCESSED})
SAID = {Verdict.ACK: "ack", Verdict.RELEASE: "release", Verdict.RETRY: "retry", Verdict.PARK: "park"}


class Life(NamedTuple):
    """Of a message: how often its group had begun anew, and how often it had been driven again since."""

    era: int
    drives: int


@dataclass(slots=True)
class Group:
    """One group in one partition."""

    state: QueueGroup
    """In the end."""
    attempts: dict[tuple[int, int], int] = field(default_factory=dict)
    """By lease and offset: the how-manieth grant of that message it was, as counted from grants."""
    granted_in: dict[int, Term] = field(default_factory=dict)
    """By lease."""
    accepted: dict[tuple[int, int], set[str]] = field(default_factory=dict)
    """By lease and offset: kinds of verdicts."""
    seeks: int = 0
    drives: Counter[int] = field(default_factory=Counter)
    """How often each message was driven again in this era."""
    ended: dict[tuple[int, Life], str] = field(default_factory=dict)
    """Messages that were parked, or ended without an acknowledgement, and how."""
    lives: dict[tuple[int, int], Life] = field(default_factory=dict)
    """By lease and offset."""
    acked: dict[tuple[int, int], tuple[int, bytes]] = field(default_factory=dict)
    """By offset and era: under which lease, and by what key the work is known, if by any."""
    parkings: Counter[int] = field(default_factory=Counter)
    """How often each message was parked, over all eras."""
    routed: Counter[int] = field(default_factory=Counter)
    """How often a leader has said of a message that is parked that it stands in the topic of dead letters."""
    said_of: dict[int, int] = field(default_factory=dict)
    """Of which of its parkings a leader has said so last."""
    removed: set[int] = field(default_factory=set)
    """Messages that were removed when they were said to stand there."""
    parked_in: dict[int, Term] = field(default_factory=dict)
    """By offset: when it was parked last."""
    _grants: Counter[int] = field(default_factory=Counter)

    def life(self, offset: int) -> Life:
        """The one that it leads now."""
        return Life(self.seeks, self.drives[offset])

    def granted(self, answer: Granted, term: Term) -> None:
        if answer.lease:
            self.granted_in[answer.lease] = term
        for offset in answer.offsets:
            self._grants[offset] += 1
            self.attempts[answer.lease, offset] = self._grants[offset]
            self.lives[answer.lease, offset] = self.life(offset)

    def sought(self) -> None:
        self.seeks += 1
        self.drives.clear()
        self._grants.clear()


@dataclass(slots=True)
class Truth:
    """Of one partition."""

    groups: dict[QueueId, Group] = field(default_factory=dict)
    expires: set[int] = field(default_factory=set)
    """Offsets of records that are not wanted after some time."""
    together: dict[int, tuple[int, Sequence[Settle]]] = field(default_factory=dict)
    """Batches that are one entry with verdicts, by first offset: the offset behind them, and the verdicts."""
    counts: Counter[str] = field(default_factory=Counter)
    """How often what came to pass, over all groups."""
    log_start: int = 0


def replay(entries: Iterable[LogEntry]) -> Truth:
    """Apply a whole log, from its first entry on."""
    truth, machine = Truth(), PartitionMachine()
    for entry in entries:
        before = {queue_id: _places(group) for queue_id, group in machine.queues.groups.items()}
        answers = machine.apply(entry).queue
        if entry.kind is EntryKind.DATA:
            _note_records(truth, entry)
        said: set[tuple[QueueId, int]] = set()
        for op, answer in zip(_ops(entry, truth) if answers else (), answers, strict=True):
            _note(truth, machine, entry, op, answer, said)
        for queue_id, state in machine.queues.groups.items():
            group = truth.groups.setdefault(queue_id, Group(state))
            if group.state is state:
                _note_ends(
                    truth, group, before.get(queue_id, (set(), set())), {at for of, at in said if of == queue_id},
                    entry.term,
                )  # fmt: skip
            group.state = state
    truth.log_start = machine.log_start_offset
    return truth


def _ops(entry: LogEntry, truth: Truth) -> Sequence[QueueOp]:
    """What an entry asks of queue groups."""
    if entry.kind is EntryKind.DATA:
        settles = codec.attached(entry.inline) if entry.version == VERDICTS_VERSION else ()
        truth.together[entry.base_offset] = entry.next_offset, settles
        truth.counts["results published"] += entry.count
        return settles
    command = commands.decode(entry.inline, entry.version)
    assert isinstance(command, QueueCommand)
    return command.ops


def _places(group: QueueGroup) -> tuple[set[int], set[int]]:
    """Offsets that are open, and those of them that are parked."""
    return set(group.open), set(group.parked.offsets)


def _note_records(truth: Truth, entry: LogEntry) -> None:
    header = types_pb2.BatchHeader.FromString(entry.inline)
    for offset, record in enumerate(decode_records(header, entry.payload), entry.base_offset):
        if record.expires_at_ms:
            truth.expires.add(offset)


def _note(
    truth: Truth, machine: PartitionMachine, entry: LogEntry, op: QueueOp, answer: QueueAnswer,
    said: set[tuple[QueueId, int]],
) -> None:  # fmt: skip
    if isinstance(op, Hold):
        truth.counts["records held beside the log"] += isinstance(answer, Done)
        return
    state = machine.queues.groups.get(op.group)
    if state is None:
        return
    group = truth.groups.setdefault(op.group, Group(state))
    match answer:
        case Granted():
            group.granted(answer, entry.term)
        case Settled() if isinstance(op, Settle):
            _note_verdicts(truth, group, entry, op, answer, said)
        case Sought():
            group.sought()
            truth.counts["queues sought"] += 1
        case Done() if isinstance(op, Routed):
            for offset in op.offsets:
                _note_letter(truth, group, state, entry.term, offset, op)
        case Redriven():
            for offset in answer.offsets:
                group.ended[offset, group.life(offset)] = "parked"
                group.drives[offset] += 1
            truth.counts["messages redriven"] += len(answer.offsets)
            truth.counts["messages in a loop left parked"] += len(answer.looping)


def _note_letter(truth: Truth, group: Group, state: QueueGroup, term: Term, offset: int, op: Routed) -> None:
    """Unless it was passed over, because it is not parked any more, or has been parked again, or was said before."""
    if op.remove:
        is_taken = offset not in state.open and group.ended.get((offset, group.life(offset))) == "parked"
    else:
        is_taken = offset in state.parked.routed
    if not is_taken or group.said_of.get(offset) == group.parkings[offset]:
        truth.counts["dead letters passed over"] += 1
        return
    group.said_of[offset] = group.parkings[offset]
    group.routed[offset] += 1
    if op.remove:
        group.removed.add(offset)
    truth.counts["dead letters " + ("removed" if op.remove else "copied")] += 1
    truth.counts["dead letters copied by another leader"] += group.parked_in.get(offset) != term


def _note_verdicts(
    truth: Truth, group: Group, entry: LogEntry, op: Settle, answer: Settled, said: set[tuple[QueueId, int]]
) -> None:
    keys = op.processed_keys or [b""] * len(op.offsets)
    for offset, status, key in zip(op.offsets, answer.statuses, keys, strict=True):
        truth.counts[f"verdicts {status.name}"] += 1
        if status not in ACCEPTED:
            continue
        group.accepted.setdefault((op.lease, offset), set()).add(SAID[op.verdict])
        if status is Status.DUPLICATE:
            continue
        if group.granted_in.get(op.lease) != entry.term:
            truth.counts["verdicts under another leader"] += 1
        if op.verdict is Verdict.ACK:
            said.add((op.group, offset))
            group.acked[offset, group.seeks] = op.lease, key
        elif op.verdict is Verdict.PARK or status in (Status.PARKED, Status.DROPPED):
            # Here too, because whatever follows in this entry may begin the group anew.
            group.ended[offset, group.life(offset)] = "gone" if status is Status.DROPPED else "parked"


def _note_ends(truth: Truth, group: Group, before: tuple[set[int], set[int]], acked: set[int], term: Term) -> None:
    """What came to its end in one entry, but by an acknowledgement."""
    now = _places(group.state)
    for offset in sorted(now[1] - before[1]):
        group.ended[offset, group.life(offset)] = "parked"
        group.parkings[offset] += 1
        group.parked_in[offset] = term
        truth.counts["messages parked"] += 1
    for offset in sorted(before[0] - now[0] - acked):
        if offset in before[1] and offset in group.removed:
            continue  # it was parked, and stands among the dead letters
        group.ended[offset, group.life(offset)] = "gone"
        truth.counts["messages gone"] += 1


# -- histories, life by life -------------------------------------------------------------------------------------------


def lives(queue: Queue, truths: Mapping[str, Group]) -> list[Queue]:
    """A history, taken apart: a queue for each time its group began anew, and a partition of its own for what was
    driven again. ``truths``: by partition. What the log does not know of is in none of them."""
    eras: dict[int, Queue] = {}

    def era(number: int) -> Queue:
        if number not in eras:
            name = queue.name + (f" after seek {number}" if number else "")
            eras[number] = Queue(name, queue.attempts_max, queue.ordered, expiry_fails=queue.expiry_fails)
            eras[number].counts["-"] = {}
        return eras[number]

    known = {(partition, *token): life for partition, group in truths.items() for token, life in group.lives.items()}
    for one in queue.deliveries:
        life = known.get((one.partition, one.lease, one.offset))
        if life is not None:
            era(life.era).deliveries.append(one._replace(partition=_renamed(one.partition, life)))
    for verdict in queue.verdicts:
        life = known.get((verdict.partition, verdict.lease, verdict.offset))
        if life is not None:
            era(life.era).verdicts.append(replace(verdict, partition=_renamed(verdict.partition, life)))
    for partition, group in truths.items():
        for (offset, life), how in group.ended.items():
            left = _left(group, _renamed(partition, life), offset, how, life)
            era(life.era).left[left.partition, left.offset] = left
    return [eras[number] for number in sorted(eras)]


def _renamed(partition: str, life: Life) -> str:
    return f"{partition} redriven {life.drives}" if life.drives else partition


def _left(group: Group, partition: str, offset: int, how: str, life: Life) -> Left:
    assert how in ENDED
    records = group.state.records
    found = group.state.parked.get(offset) if life == group.life(offset) else None
    reason = "" if found is None else found.reason
    return Left(partition, offset, how, FOREIGN, records.handouts[offset], records.failures[offset], reason)


@dataclass(slots=True)
class Judged:
    """One group of the run, in all partitions, when all is over."""

    plan: QueuePlan
    history: Queue
    groups: dict[str, Group]
    """By partition, as histories name it."""
    truths: dict[str, Truth]
    can_skip: bool
    """Records may be removed before the group is done with them: for the topic's rules, or for another group's."""
    lives: list[Queue]


def judged(
    plans: Sequence[QueuePlan], histories: Mapping[str, Queue], logs: Mapping[Partition, Sequence[Sequence[LogEntry]]],
    ids: Mapping[str, QueueId], forgets: bool,
) -> list[Judged]:  # fmt: skip
    """What became of the groups of a run. ``logs``: by partition, those of all replicas; ``ids``: by name of group."""
    topics = {plan.topic for plan in plans}
    truths = {partition: replay(found[0]) for partition, found in logs.items() if partition.topic in topics}
    deletes = any(plan.settings.retention != "log" for plan in plans)
    result = []
    for plan in plans:
        mine = {f"{p.topic}/{p.number}": truth for p, truth in truths.items() if p.topic == plan.topic}
        number = ids[plan.name]
        groups = {name: truth.groups[number] for name, truth in mine.items() if number in truth.groups}
        can_skip = plan.settings.retention == "log" and (forgets or deletes)
        history = histories[plan.name]
        result.append(Judged(plan, history, groups, mine, can_skip, lives(history, groups)))
    return result


def acknowledged(queue: Queue, partition: str, group: Group) -> set[Message]:
    """Messages of the newest era of which some worker may have said that they are done."""
    return {
        (partition, one.offset)
        for one in queue.verdicts
        if one.partition == partition
        and one.kind == "ack"
        and one.outcome is not Outcome.FAIL
        and group.lives.get((one.lease, one.offset), Life(-1, 0)).era == group.seeks
    }
