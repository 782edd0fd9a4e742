"""One consumer group: how it gets from one assignment to the next without two members ever reading one partition.

Each partition has a *target*, the member that is to read it, and at most one *owner*, the member that may read it now.

    change of members or topics ──> epoch + 1, new targets
    owner is the target             it reads on, and notices nothing
    owner is not the target         it has to give the partition up: it stops, then confirms ──> no owner
    no owner                        the target owns it at once, since this epoch

Nobody waits for anybody who has nothing of theirs. A member learns all of it by looking: nothing is written for that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from raftmq.errors import (
    FencedMember,
    GroupNotEmpty,
    PreconditionFailed,
    RaftmqError,
    StaleMember,
    UnknownMember,
)
from raftmq.groups.assignors import Assignment, assign
from raftmq.groups.types import Assignor, Committed, Member, Ownership, Position, TopicFacts, TopicPartition

MEMBERS_MAX = 1_000
OFFSETS_MAX = 20_000
SUBSCRIPTIONS_MAX = 10_000
"""Names of topics, over all members: all of them are written anew whenever a member comes or goes."""
METADATA_BYTES_MAX = 4 << 20
"""Of one group. Every replica holds them in memory."""


class ConsumerGroup:
    """Not thread-safe. Whatever raises has changed nothing.

    Invariants: `owners` and `target` name members only; a partition has one owner; once no member has anything to give
    up, owners are targets.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_new = True
        """No change of it was applied yet."""
        self.epoch = 0
        """Grows with every change of who should read what."""
        self.resting_since = 0
        """Log tick since which it is known to have no members; 0: it is not."""
        self.assignor = Assignor.STICKY
        self.facts: dict[str, TopicFacts] = {}
        """Topics that members read, by name, as far as they exist."""
        self.members: dict[str, Member] = {}
        self.owners: dict[TopicPartition, Ownership] = {}
        self.target: Assignment = {}
        self.offsets: dict[TopicPartition, Committed] = {}
        self._views: dict[str, tuple[tuple[TopicPartition, ...], tuple[TopicPartition, ...]]] = {}

    @property
    def is_forgettable(self) -> bool:
        """There is nothing in it that anybody could ask for."""
        return not self.members and not self.offsets

    # -- what members are told -------------------------------------------------------------------------------------

    def assigned(self, member_id: str) -> tuple[TopicPartition, ...]:
        """What the member may read."""
        return self._view(member_id)[0]

    def revoking(self, member_id: str) -> tuple[TopicPartition, ...]:
        """What the member has to give up, and has not confirmed yet."""
        return self._view(member_id)[1]

    def member(self, member_id: str, instance_id: str = "") -> Member:
        """Raises UnknownMember, or FencedMember where another one goes by `instance_id` now."""
        found = self.members.get(member_id)
        if found is not None:
            return found
        if instance_id and any(one.instance_id == instance_id for one in self.members.values()):
            raise FencedMember(f"another member of group {self.name} goes by this instance id now", field="instance_id")
        raise UnknownMember(
            f"group {self.name} has no such member (any more): its session expired, or it left", field="member_id"
        )

    def _view(self, member_id: str) -> tuple[tuple[TopicPartition, ...], tuple[TopicPartition, ...]]:
        if not self._views:
            mine: dict[str, tuple[list[TopicPartition], list[TopicPartition]]] = {}
            for key, owner in sorted(self.owners.items()):
                keeps, gives_up = mine.setdefault(owner.member_id, ([], []))
                (keeps if self.target.get(key) == owner.member_id else gives_up).append(key)
            self._views = {one: (tuple(keeps), tuple(gives_up)) for one, (keeps, gives_up) in mine.items()}
        return self._views.get(member_id, ((), ()))

    # -- members ---------------------------------------------------------------------------------------------------

    def join(self, wish: Member, assignor: Assignor | None, facts: Iterable[TopicFacts]) -> None:
        """`wish` is a member from now on; one that is already gets other topics or settings. None: the assignor stays.

        Who comes under an instance id takes its holder's place. Raises PreconditionFailed where the group is full.
        """
        known = self.members.get(wish.member_id)
        holder = known or self._holder_of(wish.instance_id)
        if holder is None and len(self.members) >= MEMBERS_MAX:
            raise PreconditionFailed(f"group {self.name} has {MEMBERS_MAX} members, which is the most", field="group")
        joined = self.epoch + 1 if known is None else known.joined_epoch
        wish = replace(wish, topics=tuple(sorted(set(wish.topics))), joined_epoch=joined)
        chosen = assignor or self.assignor
        before = dict(self.facts)
        self._know(facts)
        if known == wish and chosen is self.assignor and self.facts == before:
            return
        self.resting_since = 0
        if holder is not None and known is None:
            self._succeed(holder.member_id, wish.member_id)
        self.members[wish.member_id] = wish
        self.assignor = chosen
        self._assign()

    def expect_room(self, wish: Member) -> None:
        """For what `wish` subscribes to. Raises PreconditionFailed."""
        others = sum(len(one.topics) for name, one in self.members.items() if name != wish.member_id)
        if others + len(wish.topics) > SUBSCRIPTIONS_MAX:
            raise PreconditionFailed(
                f"the members of group {self.name} subscribe to {others} topics in all, at most {SUBSCRIPTIONS_MAX} "
                f"together with this one's {len(wish.topics)}",
                field="topics",
            )

    def leave(self, member_id: str) -> None:
        """The member has stopped, or is taken for dead. Raises UnknownMember."""
        self.member(member_id)
        del self.members[member_id]
        self._assign()

    def confirm(self, member_id: str, epoch: int, partitions: Iterable[TopicPartition]) -> None:
        """The member, which has heard of `epoch`, reads `partitions` no more. What it is not to give up is passed over,
        and what it is to give up since a later epoch: it may have been given it back between. Raises UnknownMember.
        """
        self.member(member_id)
        mine = set(self.revoking(member_id))
        for key in partitions:
            if key in mine and self.owners[key].revoked <= epoch:
                mine.discard(key)
                del self.owners[key]
        self._settle()

    def topics_changed(self, facts: Iterable[TopicFacts], deleted: Iterable[int]) -> list[TopicPartition]:
        """Topics are these now; returns those whose offsets went with the topics `deleted`."""
        before = dict(self.facts)
        self.facts = {}
        self._know(facts)
        gone = set(deleted)
        lost = sorted(key for key in self.offsets if key.topic_id in gone)
        for key in lost:
            del self.offsets[key]
        self.owners = {key: owner for key, owner in self.owners.items() if key.topic_id not in gone}
        self._views = {}  # a topic that nobody reads any more is in no facts, but may still have an owner
        if self.facts != before:
            self._assign()
        return lost

    def _holder_of(self, instance_id: str) -> Member | None:
        held = (one for one in self.members.values() if one.instance_id == instance_id)
        return next(held, None) if instance_id else None

    def _succeed(self, old: str, new: str) -> None:
        """`new` takes over everything that `old` had, which is no member any more."""
        del self.members[old]
        since = self.epoch + 1
        for key, owner in self.owners.items():
            if owner.member_id == old:
                self.owners[key] = Ownership(new, since)
        for key, member_id in self.target.items():
            if member_id == old:
                self.target[key] = new

    def _know(self, facts: Iterable[TopicFacts]) -> None:
        for topic in facts:
            self.facts[topic.name] = topic

    def _assign(self) -> None:
        """Members or topics are others."""
        self.epoch += 1
        read = {name for member in self.members.values() for name in member.topics}
        self.facts = {name: topic for name, topic in sorted(self.facts.items()) if name in read}
        members = [member for _, member in sorted(self.members.items())]
        # What is owned counts, and what is promised, where nobody owns it: a member that was to get it loses nothing.
        before = {**self.target, **{key: owner.member_id for key, owner in self.owners.items()}}
        self.target = assign(self.assignor, members, self.facts.values(), before)
        self._settle()

    def _settle(self) -> None:
        """Let go of what has no member any more, and give what nobody owns to its target."""
        kept: dict[TopicPartition, Ownership] = {}
        for key, owner in self.owners.items():
            if owner.member_id not in self.members:
                continue
            if self.target.get(key) == owner.member_id:
                kept[key] = owner if owner.revoked == 0 else replace(owner, revoked=0)
            else:
                kept[key] = owner if owner.revoked else replace(owner, revoked=self.epoch)
        for key, member_id in sorted(self.target.items()):
            if key not in kept:
                kept[key] = Ownership(member_id, self.epoch)
        self.owners = kept
        self._views = {}

    # -- offsets ---------------------------------------------------------------------------------------------------

    def commit(
        self, member_id: str, epoch: int, wanted: Sequence[tuple[TopicPartition, Position]], log_tick: int, wall_ms: int
    ) -> list[RaftmqError | None]:
        """For each: committed (None), or why not. Raises UnknownMember, StaleMember or GroupNotEmpty where none is."""
        self.expect_committer(member_id)
        if member_id and epoch > self.epoch:
            raise StaleMember(f"{epoch} is no epoch of group {self.name} yet", field="member_epoch")
        results: list[RaftmqError | None] = []
        for key, position in wanted:
            refusal = self._refusal(member_id, epoch, key, position)
            if refusal is None:
                self.offsets[key] = Committed(position, log_tick, wall_ms)
            results.append(refusal)
        return results

    def expect_committer(self, member_id: str) -> None:
        """Whether `member_id` may commit at all; empty: somebody outside. Raises UnknownMember, GroupNotEmpty."""
        if member_id:
            self.member(member_id)
        elif self.members:
            raise GroupNotEmpty(f"group {self.name} has members: only they may commit", field="member_id")

    def expect_room_beside(self, wanted: Sequence[tuple[TopicPartition, Position]]) -> None:
        """For the metadata of offsets. Raises PreconditionFailed."""
        more = sum(len(position.metadata) for _, position in wanted)
        if not more:
            return
        replaced = {key for key, _ in wanted}
        kept = sum(len(one.position.metadata) for key, one in self.offsets.items() if key not in replaced)
        if kept + more > METADATA_BYTES_MAX:
            raise PreconditionFailed(
                f"the offsets of group {self.name} carry {kept} characters of metadata, at most {METADATA_BYTES_MAX} "
                f"with {more} more",
                field="offsets",
            )

    def _refusal(self, member_id: str, epoch: int, key: TopicPartition, position: Position) -> RaftmqError | None:
        if member_id:
            owner = self.owners.get(key)
            if owner is None or owner.member_id != member_id:
                return StaleMember("the member does not read this partition (any more)", field="partition")
            if epoch < owner.since:
                return StaleMember(
                    f"the member reads this partition since epoch {owner.since}, not {epoch}", field="member_epoch"
                )
        known = self.offsets.get(key)
        if known is None:
            if len(self.offsets) >= OFFSETS_MAX:
                return PreconditionFailed(f"group {self.name} has {OFFSETS_MAX} offsets, which is the most")
            return None
        if position.offset < known.position.offset:
            return PreconditionFailed(
                f"offset {known.position.offset} is committed: only a reset goes back",
                field="offset",
                metadata={"committed_offset": str(known.position.offset)},
            )
        return None

    def set_offsets(self, wanted: Sequence[tuple[TopicPartition, Position]], log_tick: int, wall_ms: int) -> None:
        """Whatever they were before. Raises GroupNotEmpty, PreconditionFailed."""
        self.expect_empty()
        if len(self.offsets.keys() | {key for key, _ in wanted}) > OFFSETS_MAX:
            raise PreconditionFailed(f"group {self.name} may have {OFFSETS_MAX} offsets")
        for key, position in wanted:
            self.offsets[key] = Committed(position, log_tick, wall_ms)

    def delete_offsets(self, partitions: Iterable[TopicPartition]) -> None:
        """Raises GroupNotEmpty."""
        self.expect_empty()
        for key in partitions:
            self.offsets.pop(key, None)

    def rest(self, log_tick: int) -> None:
        """Raises GroupNotEmpty."""
        self.expect_empty()
        self.resting_since = self.resting_since or max(1, log_tick)

    def expect_forgotten(self, resting_since: int, as_of: int) -> None:
        """Nothing was heard of the group between the two. Raises GroupNotEmpty, PreconditionFailed."""
        self.expect_empty()
        if self.resting_since != resting_since or self.last_committed > as_of:
            raise PreconditionFailed(f"group {self.name} was heard of meanwhile", field="group")

    @property
    def last_committed(self) -> int:
        """Log tick of its newest offset; 0: it has none."""
        return max((committed.log_tick for committed in self.offsets.values()), default=0)

    def expect_empty(self) -> None:
        """Raises GroupNotEmpty."""
        if self.members:
            raise GroupNotEmpty(f"group {self.name} has {len(self.members)} members: stop them first", field="group")
