"""Bugs of consumer groups: of their state machine, of what is written of it, and of their members."""

from __future__ import annotations

from typing import Any

from raftmq.client.group_consumer import GroupConsumer
from raftmq.client.group_types import Owned
from raftmq.client.retry import Doubt
from raftmq.groups import rows
from raftmq.groups.group import ConsumerGroup
from raftmq.groups.types import Ownership
from raftmq.replica.upkeep import Upkeep
from tests.mutants.table import Patch, mutant

AREA = "consumer groups"


@mutant(AREA, "tests/groups/test_groups_machine.py", "test_a_commit_counts_for_the_owner_only_and_since_it_became_one")
def zombie_commits_count(patch: Patch) -> None:
    """Whoever commits is not asked whether it is a member that owns the partition."""
    refusal = ConsumerGroup._refusal
    patch.setattr(ConsumerGroup, "expect_committer", lambda self, member_id: None)
    patch.setattr(
        ConsumerGroup, "_refusal", lambda self, member_id, epoch, key, position: refusal(self, "", epoch, key, position)
    )


@mutant(AREA, "tests/groups/test_groups_machine.py", "test_a_partition_moves_by_stop_confirmed_start")
def partition_not_waited_for(patch: Patch) -> None:
    """A partition goes to its target before its owner has given it up."""

    def settle(self: ConsumerGroup) -> None:
        kept: dict[Any, Ownership] = {}
        for key, member_id in sorted(self.target.items()):
            owner = self.owners.get(key)
            kept[key] = owner if owner and owner.member_id == member_id else Ownership(member_id, self.epoch)
        self.owners = kept
        self._views = {}

    patch.setattr(ConsumerGroup, "_settle", settle)


@mutant(AREA)
def revocation_not_written(patch: Patch) -> None:
    """That an owner has to give a partition up is lost when its coordinator starts anew."""
    decode = rows.decode_group

    def decoding(key: bytes, value: bytes) -> ConsumerGroup:
        group = decode(key, value)
        group.owners = {key: Ownership(one.member_id, one.since) for key, one in group.owners.items()}
        return group

    patch.setattr(rows, "decode_group", decoding)


@mutant(AREA)
def record_in_hand_committed(patch: Patch) -> None:
    """A record counts as done when it is given, not when the program comes back for more."""
    give = GroupConsumer._give

    def giving(self: GroupConsumer, owned: Owned, after: int) -> None:
        give(self, owned, after)
        owned.done = after

    patch.setattr(GroupConsumer, "_give", giving)


@mutant(AREA, "tests/client/test_commits.py", "test_nobody_knows_of_a_commit_that_is_refused_only_when_it_is_repeated")
def commit_surely_failed(patch: Patch) -> None:
    """A commit that is refused is told to have failed for sure, whatever became of the attempts before it."""
    patch.setattr(Doubt, "of", lambda self, error: error)


@mutant(AREA, "tests/sim/test_memberships.py", "test_members_come_and_go_while_coordinators_die_and_forget_their_logs")
def groups_never_trimmed(patch: Patch) -> None:
    """A topic without limits keeps everything, the log of consumer groups too."""
    propose = Upkeep._propose
    patch.setattr(
        Upkeep, "_propose", lambda self, hosted, retention, *now: propose(self, hosted, retention or None, *now)
    )
