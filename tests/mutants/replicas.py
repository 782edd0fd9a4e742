"""Bugs of the shell around the core: acknowledgements, the in-sync set, reads, other processes' frames."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from raftmq.errors import LeadershipLost, OffsetOutOfRange, Outcome
from raftmq.ids import LogIndex, Tick
from raftmq.replica.answers import row_of
from raftmq.replica.depth import Gate
from raftmq.replica.heartbeats import NodeHeartbeats
from raftmq.replica.host import Bounds, ReplicaHost
from raftmq.replica.in_sync import InSyncSet
from raftmq.replica.manager import Replicas
from raftmq.replica.produce import Leadership
from raftmq.replica.waits import Acks, Wait
from tests.mutants.table import Patch, mutant

AREA = "replicas"


@mutant(AREA)
def watermark_above_commit(patch: Patch) -> None:
    """Consumers get whatever the leader has."""

    def bounds(self: ReplicaHost, group: Any) -> Bounds:
        return Bounds(group.machine.log_start_offset, group.end_offset, group.node.term)

    async def read(self: ReplicaHost, group: Any, offset: Any, max_bytes: int, hold: Any) -> Any:
        return [row_of(entry) for entry in group.tail.batches(offset, group.end_offset, max_bytes) or []]

    patch.setattr(ReplicaHost, "_bounds", bounds)
    patch.setattr(ReplicaHost, "_read", read)


@mutant(AREA, "tests/replica/test_host.py", "test_a_least_watermark_is_waited_for")
def least_watermark_ignored(patch: Patch) -> None:
    """A reader that asks for its own writes is answered whatever the watermark is."""

    async def reached(self: ReplicaHost, group_id: Any, offset: Any, wait_ms: int) -> None:
        self._led(group_id)

    patch.setattr(ReplicaHost, "reached", reached)


@mutant(AREA, "tests/replica/test_depth.py", "test_what_is_under_way_counts_and_what_is_refused_is_not_in_the_log")
def depth_ignored(patch: Patch) -> None:
    """Records are taken however deep the partition is."""
    patch.setattr(Gate, "admit", lambda self, *judged: None)


@mutant(AREA, "tests/replica/test_host.py", "test_too_few_in_sync_is_refused_before_the_append")
def too_few_in_sync(patch: Patch) -> None:
    """Records are taken however few replicas are in sync."""
    refuse = Leadership._refuse
    patch.setattr(Leadership, "_refuse", lambda self, acks, least, now: refuse(self, acks, 0, now))


@mutant(AREA, "tests/replica/test_host.py", "test_a_deadline_before_the_commit_says_unknown_and_after_it_applied")
def all_means_quorum(patch: Patch) -> None:
    """ALL is answered when a majority holds the record."""
    patch.setattr(InSyncSet, "held_by_all", lambda self, now: LogIndex(1 << 60))


@mutant(
    AREA,
    "tests/replica/test_in_sync.py",
    "test_all_waits_for_every_voter_not_known_dead_until_the_term_has_had_lag_max",
)
def new_leader_guesses_who_is_in_sync(patch: Patch) -> None:
    """A new leader waits only for those whose end it knows already."""
    begin = InSyncSet.__init__

    def init(self: Any, me: Any, followers: Any, now: Any, noop: Any, lag_max: int) -> None:
        begin(self, me, followers, now, noop, lag_max)
        self._began = Tick(now - lag_max)

    patch.setattr(InSyncSet, "__init__", init)


@mutant(AREA, "tests/replica/test_host.py", "test_too_few_in_sync_is_refused_before_the_append")
def dead_replica_waited_for(patch: Patch) -> None:
    """ALL waits for a replica whose process is known to be gone."""
    patch.setattr(NodeHeartbeats, "is_dead", lambda self, member: False)


@mutant(AREA, "tests/replica/test_manager.py", "test_frames_of_an_earlier_process_and_of_strangers_are_dropped")
def frames_of_an_old_process(patch: Patch) -> None:
    """What a node's process before this one sent is taken for its own."""

    take = Replicas.on_frame

    def taking(self: Replicas, peer: Any, frame: Any) -> None:
        known = self.heartbeats.boot_of(peer.node)
        take(self, replace(peer, boot=known) if peer.boot < known else peer, frame)

    patch.setattr(Replicas, "on_frame", taking)


@mutant(AREA)
def duplicate_told_a_new_offset(patch: Patch) -> None:
    """A batch that came again is acknowledged at the offset that it would get now."""
    answer = Leadership._answer_duplicate

    def answering(self: Leadership, verdict: Any, batch: Any, acks: Any, now: Any, deadline: Any, done: Any) -> None:
        answer(self, verdict, batch, acks, now, deadline, done)
        for heap in self.waits._heaps.values():
            for _, _, wait in heap:
                if wait.done is done:
                    wait.base_offset = self.group.end_offset

    patch.setattr(Leadership, "_answer_duplicate", answering)


@mutant(AREA, "tests/replica/test_pump.py", "test_a_duplicate_of_an_uncommitted_batch_waits_with_it")
def duplicate_answered_at_once(patch: Patch) -> None:
    """A batch that came again is acknowledged although the first one is not committed."""

    def answering(self: Leadership, verdict: Any, batch: Any, acks: Any, now: Any, deadline: Any, done: Any) -> None:
        original = verdict.original
        assert original is not None
        wait = Wait(
            original.log_index, original.term, original.base_offset, batch.count, acks, deadline, done, now,
            duplicate=True, wall_ms=original.wall_ms,
        )  # fmt: skip
        wait.end(self._ack(wait, now))

    patch.setattr(Leadership, "_answer_duplicate", answering)


@mutant(AREA)
def receipt_names_everybody(patch: Patch) -> None:
    """A receipt lists all replicas, whether they hold the record or not."""
    acknowledge = Leadership._ack

    def acknowledging(self: Leadership, wait: Wait, now: Any, beside: Any = None) -> Any:
        ack = acknowledge(self, wait, now, beside)
        return replace(ack, replicas=tuple(member.node for member in self.group.voters()))

    patch.setattr(Leadership, "_ack", acknowledging)


@mutant(AREA)
def unknown_told_as_not_applied(patch: Patch) -> None:
    """A producer whose leader was deposed is told that nothing happened."""
    patch.setattr(LeadershipLost, "default_outcome", Outcome.NOT_APPLIED)
    begin = LeadershipLost.__init__

    def init(self: Any, message: str, **more: Any) -> None:
        more.pop("outcome", None)
        begin(self, message, outcome=Outcome.NOT_APPLIED, **more)

    patch.setattr(LeadershipLost, "__init__", init)


@mutant(AREA, "tests/replica/test_host.py", "test_a_deposed_leader_answers_at_once_and_says_unknown")
def unknown_told_as_applied(patch: Patch) -> None:
    """A producer whose leader was deposed is told that its batch is committed."""
    begin = LeadershipLost.__init__

    def init(self: Any, message: str, **more: Any) -> None:
        more.pop("outcome", None)
        begin(self, message, outcome=Outcome.APPLIED, **more)

    patch.setattr(LeadershipLost, "__init__", init)


@mutant(AREA)
def quorum_means_leader(patch: Patch) -> None:
    """QUORUM is answered when the leader's own disk holds the record."""
    progressed = Leadership.progressed

    def progressing(self: Leadership, now: Any) -> None:
        self._end(Acks.QUORUM, self.group.node.persisted_index, now)
        progressed(self, now)

    patch.setattr(Leadership, "progressed", progressing)


@mutant(AREA, "tests/replica/test_host.py", "test_a_deposed_leader_does_not_say_that_an_offset_does_not_exist")
def deposed_leader_denies_an_offset(patch: Patch) -> None:
    """A leader says that an offset does not exist without asking a quorum whether it still leads."""

    async def readable(self: ReplicaHost, group: Any, offset: Any) -> None:
        bounds = self._bounds(group)
        if offset > bounds.high_watermark:
            raise OffsetOutOfRange(f"offset {offset} is beyond the end", field="offset")

    patch.setattr(ReplicaHost, "_readable", readable)
