"""Bugs of the pure state machines: producers and offsets of a partition, the image of the cluster."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from raftmq.errors import FencedProducer, OutOfOrderSequence, RaftmqError
from raftmq.ids import GroupId, Offset
from raftmq.metadata import events
from raftmq.metadata.image import MetadataImage
from raftmq.partition import commands, overlay, producers
from raftmq.partition.machine import PartitionMachine
from raftmq.partition.message_ids import MessageIdOverlay, MessageIdTable, Named, NamedBatch
from raftmq.partition.overlay import ProducerOverlay
from raftmq.partition.producers import APPEND, Duplicate, Placement, ProducerTable
from tests.mutants.table import Patch, mutant

AREA = "state machines"


def _decide(patch: Patch, deciding: Any) -> None:
    patch.setattr(producers, "decide", deciding)
    patch.setattr(overlay, "decide", deciding)


@mutant(AREA)
def skip_deduplication(patch: Patch) -> None:
    """A batch whose sequence was used before is appended again."""
    decide = producers.decide

    def deciding(state: Any, batch: Any) -> Any:
        try:
            verdict = decide(state, batch)
        except RaftmqError:
            return APPEND
        return APPEND if isinstance(verdict, Duplicate) else verdict

    _decide(patch, deciding)


@mutant(AREA, "tests/partition/test_producers.py", "test_a_gap_is_out_of_order")
def gap_accepted(patch: Patch) -> None:
    """A batch is appended although the one before it is missing."""
    decide = producers.decide

    def deciding(state: Any, batch: Any) -> Any:
        try:
            return decide(state, batch)
        except OutOfOrderSequence:
            return APPEND

    _decide(patch, deciding)


@mutant(AREA, "tests/partition/test_producers.py", "test_an_older_epoch_is_fenced_whatever_its_sequence")
def older_epoch_accepted(patch: Patch) -> None:
    """A producer that was fenced goes on."""
    decide = producers.decide

    def deciding(state: Any, batch: Any) -> Any:
        try:
            return decide(state, batch)
        except FencedProducer:
            return APPEND

    _decide(patch, deciding)


@mutant(AREA, "tests/partition/test_overlay.py", "test_an_uncommitted_batch_already_counts")
def no_overlay(patch: Patch) -> None:
    """The leader forgets what it has appended and not yet committed."""
    patch.setattr(ProducerOverlay, "note", lambda self, batch, placement: None)


@mutant(AREA, "tests/partition/test_overlay.py", "test_overlay_and_table_decide_as_one_table")
def overlay_kept_after_applying(patch: Patch) -> None:
    """The leader's own view of its producers is never brought up to what was applied."""
    patch.setattr(ProducerOverlay, "_get", lambda self, producer_id, log_tick: self._states.get(producer_id))


@mutant(
    AREA,
    "tests/partition/test_partition_machine.py",
    "test_time_passes_with_every_kind_of_entry_and_producers_expire_by_it",
)
def producers_expire_early(patch: Patch) -> None:
    """A producer is forgotten while its batches may still be sent again."""
    patch.setattr(ProducerTable, "is_expired", lambda self, state, log_tick: log_tick - state.log_tick >= 100)


@mutant(AREA, "tests/partition/test_producers.py", "test_a_batch_in_the_window_is_a_duplicate_with_its_original")
def window_of_two(patch: Patch) -> None:
    """Only the last two batches of a producer are remembered."""
    patch.setattr(producers, "WINDOW", 2)


@mutant(AREA)
def offsets_count_entries(patch: Patch) -> None:
    """An entry takes one offset, however many records it holds."""
    apply = PartitionMachine.apply

    def applying(self: PartitionMachine, entry: Any) -> Any:
        applied = apply(self, entry)
        if entry.count > 1:
            self.next_offset = Offset(entry.base_offset + 1)
        return applied

    patch.setattr(PartitionMachine, "apply", applying)


@mutant(
    AREA,
    "tests/partition/test_partition_machine.py",
    "test_a_trim_moves_the_log_start_forward_only_and_never_past_what_is_committed",
)
def log_start_falls(patch: Patch) -> None:
    """A trim takes the log start wherever it says, back too."""
    apply = PartitionMachine._apply_command

    def applying(self: PartitionMachine, entry: Any) -> None:
        command = commands.decode(entry.inline, entry.version)
        if isinstance(command, commands.TrimCommand):
            self.log_start_offset = command.log_start_offset
        else:
            apply(self, entry)

    patch.setattr(PartitionMachine, "_apply_command", applying)


@mutant(AREA)
def forget_message_ids(patch: Patch) -> None:
    """A message id leads to nothing, neither in the table nor in what is under way."""

    def remember(self: MessageIdTable, batch: Named, placement: Placement) -> NamedBatch:
        remembered = self._batches[batch.message_id] = NamedBatch.of(self.total, batch, placement)
        self.total += 1
        return remembered

    patch.setattr(MessageIdTable, "remember", remember)
    for kind in (MessageIdTable, MessageIdOverlay):
        patch.setattr(kind, "find", lambda self, batch, log_tick: None)


@mutant(
    AREA, "tests/metadata/test_decisions.py", "test_whatever_is_decided_can_be_replayed_and_numbers_are_never_reused"
)
def ids_given_again(patch: Patch) -> None:
    """The numbers of the newest topic are free again when it is deleted."""
    delete = MetadataImage._delete

    def deleting(self: MetadataImage, topic_id: int) -> MetadataImage:
        image = delete(self, topic_id)
        if topic_id != self.next_topic_id - 1:
            return image
        (topic,) = (topic for topic in self.topics.values() if topic.topic_id == topic_id)
        return replace(image, next_topic_id=topic_id, next_group_id=GroupId(topic.partitions[0].group))

    patch.setattr(MetadataImage, "_delete", deleting)


@mutant(AREA, "tests/metadata/test_decisions.py", "test_producer_ids_are_given_in_blocks_that_do_not_overlap")
def producer_ids_given_again(patch: Patch) -> None:
    """A block of producer ids is given to more than one node."""
    replay = MetadataImage.replay

    def replaying(self: MetadataImage, event: Any) -> MetadataImage:
        return self if isinstance(event, events.ProducerIdsAllocated) else replay(self, event)

    patch.setattr(MetadataImage, "replay", replaying)
