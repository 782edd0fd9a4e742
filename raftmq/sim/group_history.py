"""What members of a consumer group were told, were given, did and asked: the outside view of one group.

Every event is told to the invariants in the order in which things happened, which virtual time knows exactly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from raftmq.sim.oracle import Partition, Told

NOTHING = -1
"""The committed offset of a partition that has none."""


@dataclass(frozen=True, slots=True)
class Who:
    """A member, under the id that it had then. `instance`: its name beyond that id, empty where it has none."""

    group: str
    member: str
    instance: str = ""


@dataclass(frozen=True, slots=True)
class Owns:
    """From now on it reads a partition, having been told so under `epoch`."""

    who: Who
    epoch: int
    partition: Partition
    is_remembered: bool
    """Something is committed in the group: it is not forgotten, to begin at epoch 1 anew, when all have left."""


@dataclass(frozen=True, slots=True)
class Given:
    """The iteration handed a record out. `owner`: who was the last to be told that the partition is its own."""

    who: Who
    partition: Partition
    offset: int
    owner: Owns | None
    is_timely: bool
    """Clocks are right in this run, so that sessions end when both sides think that they do; and nobody else lives, or
    lived meanwhile, under the member's instance id, who may take its place before it can know."""
    is_at_most_once: bool
    """The group commits before it gives."""


@dataclass(frozen=True, slots=True)
class Processed:
    """The program is done with a record."""

    who: Who
    partition: Partition
    offset: int


@dataclass(slots=True)
class GroupCommit:
    """Of one partition. Told twice: when it is asked for (PENDING), and when it has ended; never, if its process died.

    What was known when it was asked for: `floor`, the highest offset that was acknowledged or read; `owner`, as in
    `Given`; `newest`, the accepted commit of the highest epoch.
    """

    who: Who
    epoch: int
    partition: Partition
    offset: int
    is_at_most_once: bool
    floor: int
    owner: Owns | None
    newest: GroupCommit | None
    told: Told = Told.PENDING
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CommittedRead:
    """An answer to the question for committed offsets. `floors`: what it must at least say, as of when it was asked."""

    group: str
    floors: Mapping[Partition, int]
    told: Mapping[Partition, int]
    """NOTHING where the answer leaves a partition out."""


GroupEvent = Owns | Given | Processed | GroupCommit | CommittedRead


@dataclass(slots=True)
class GroupHistory:
    """Of one group; its partitions are those of topics that live through the run."""

    group: str
    heard: Callable[[GroupEvent], None]
    counts: Counter[str]
    note: Callable[[str, str], None]
    """For the trace."""
    is_timely: bool
    is_at_most_once: bool
    owners: dict[Partition, Owns] = field(default_factory=dict)
    floors: dict[Partition, int] = field(default_factory=dict)
    newest: dict[Partition, GroupCommit] = field(default_factory=dict)
    alive: dict[str, set[str]] = field(default_factory=dict)
    """By instance id: the processes that live under it."""
    rivals: set[str] = field(default_factory=set)
    """Processes that share an instance id with another one, or did: each takes the other's place with every join."""

    def came(self, process: str, instance: str) -> None:
        """A process that is to be a member begins."""
        self.counts["members started"] += 1
        if not instance:
            return
        alive = self.alive.setdefault(instance, set())
        alive.add(process)
        if len(alive) > 1:
            self.rivals |= alive

    def went(self, process: str, instance: str) -> None:
        """It is no member any more, and will not be one again."""
        if instance:
            self.alive[instance].discard(process)

    def owns(self, who: Who, epoch: int, partition: Partition) -> None:
        self.counts["partitions taken up"] += 1
        self.note(who.member, f"owns {partition.topic}/{partition.number} epoch {epoch}")
        owns = Owns(who, epoch, partition, any(floor != NOTHING for floor in self.floors.values()))
        self.heard(owns)
        self.owners[partition] = owns

    def given(self, who: Who, partition: Partition, offset: int) -> None:
        owner = self.owners.get(partition)
        is_timely = self.is_timely and who.member.rpartition(".")[0] not in self.rivals
        self.heard(Given(who, partition, offset, owner, is_timely, self.is_at_most_once))

    def processed(self, who: Who, partition: Partition, offset: int) -> None:
        self.counts["records processed by members"] += 1
        self.heard(Processed(who, partition, offset))

    # -- commits -----------------------------------------------------------------------------------------------------

    def committing(self, who: Who, epoch: int, offsets: Mapping[Partition, int]) -> list[GroupCommit]:
        """A commit is asked for."""
        asked = [
            GroupCommit(
                who, epoch, partition, offset, self.is_at_most_once, self.floors.get(partition, NOTHING),
                self.owners.get(partition), self.newest.get(partition),
            )
            for partition, offset in sorted(offsets.items())
        ]  # fmt: skip
        for one in asked:
            self.heard(one)
        return asked

    def committed(self, commit: GroupCommit, told: Told, reason: str = "") -> None:
        """It has ended."""
        commit.told, commit.reason = told, reason
        self.counts[f"group commits {told.value}"] += 1
        place = f"{commit.partition.topic}/{commit.partition.number}"
        self.note(commit.who.member, f"commits {place} {commit.offset}: {told.value} {reason}")
        self.heard(commit)
        if told is Told.OK:
            newest = self.newest.get(commit.partition)
            if newest is None or commit.epoch > newest.epoch:
                self.newest[commit.partition] = commit
            self.floors[commit.partition] = max(self.floors.get(commit.partition, NOTHING), commit.offset)

    # -- questions ---------------------------------------------------------------------------------------------------

    def read(self, floors: Mapping[Partition, int], told: Mapping[Partition, int]) -> None:
        """Somebody was told what is committed."""
        self.counts["committed offsets answered"] += 1
        self.heard(CommittedRead(self.group, floors, told))
        for partition, offset in told.items():
            self.floors[partition] = max(self.floors.get(partition, NOTHING), offset)
