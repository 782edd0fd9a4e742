"""Members that join, stop, confirm late or never, die, sleep and come back, in any order: what holds whatever they do.

The model believes each member as a client would: it reads what it was told last, until it confirms that it has stopped
or is taken for dead.
"""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from raftmq.errors import RaftmqError
from raftmq.groups.commands import Commit, Confirm, Expire, Join, Leave
from raftmq.groups.machine import GroupsMachine
from raftmq.groups.types import Assignor, Position, TopicFacts, TopicPartition
from tests.groups.build import Log, joining

TOPICS = (TopicFacts("orders", 7, 5), TopicFacts("bills", 8, 2))
PARTITIONS = [key for one in TOPICS for key in one.every()]


class Believed:
    """What a member of flesh and blood knows."""

    def __init__(self) -> None:
        self.epoch = 0
        self.reads: set[TopicPartition] = set()
        self.is_alive = True
        """As the coordinator has it."""


class Storm(RuleBasedStateMachine):
    members = Bundle("members")

    def __init__(self) -> None:
        super().__init__()
        self.log = Log()
        self.known: dict[str, Believed] = {}
        self.committed: dict[TopicPartition, int] = {}
        self.delayed: list[tuple[str, Confirm | Commit]] = []

    @rule(
        target=members,
        topics=st.sets(st.sampled_from(TOPICS), min_size=1),
        assignor=st.sampled_from([None, *Assignor]),
    )
    def join(self, topics: set[TopicFacts], assignor: Assignor | None) -> str:
        name = f"m{len(self.known)}"
        self.known[name] = Believed()
        self.log.do(joining(name, *sorted(topics, key=lambda one: one.topic_id), assignor=assignor))
        return name

    @rule(name=members, topics=st.sets(st.sampled_from(TOPICS), min_size=1))
    def read_others(self, name: str, topics: set[TopicFacts]) -> None:
        if self.known[name].is_alive:
            self.log.do(joining(name, *sorted(topics, key=lambda one: one.topic_id)))

    @rule(name=members)
    def hear(self, name: str) -> None:
        """A heartbeat is answered: it begins to read what it is told at once, and stops nothing yet."""
        member = self.known[name]
        if member.is_alive:
            member.epoch = self.log.group.epoch
            member.reads |= set(self.log.group.assigned(name))

    @rule(name=members, arrives=st.booleans())
    def stop_and_confirm(self, name: str, arrives: bool) -> None:
        """It stops what it was not told to read; the confirmation arrives now, or some time."""
        member = self.known[name]
        if not member.is_alive:
            return
        self.hear(name)
        keeps = set(self.log.group.assigned(name))
        gives_up = tuple(sorted((member.reads | set(self.log.group.revoking(name))) - keeps))
        member.reads &= keeps
        self.delayed.append((name, Confirm(name, member.epoch, gives_up)))
        if arrives:
            self._arrive(len(self.delayed) - 1)

    @rule(
        name=members, partition=st.sampled_from([key for one in TOPICS for key in one.every()]), arrives=st.booleans()
    )
    def commit(self, name: str, partition: TopicPartition, arrives: bool) -> None:
        offset = max(self.committed.values(), default=0) + 1
        sent = Commit(name, self.known[name].epoch, ((partition, Position(offset)),))
        self.delayed.append((name, sent))
        if arrives:
            self._arrive(len(self.delayed) - 1)

    @rule(at=st.integers(0, 50))
    def something_arrives(self, at: int) -> None:
        if self.delayed:
            self._arrive(at % len(self.delayed))

    def _arrive(self, at: int) -> None:
        name, change = self.delayed.pop(at)
        if "billing" not in self.log.machine.groups:
            return
        owners = dict(self.log.group.owners)
        (result,) = self.log.apply(change)
        if isinstance(change, Commit) and not isinstance(result, RaftmqError):
            ((partition, position),) = change.offsets
            assert result is not None
            if result[0] is None:
                assert owners[partition].member_id == name, "only its owner commits"
                assert change.epoch >= owners[partition].since
                assert position.offset >= self.committed.get(partition, 0)
                self.committed[partition] = position.offset

    @rule(name=consumes(members), leaves=st.booleans())
    def go(self, name: str, leaves: bool) -> None:
        """It leaves, having stopped; or it is taken for dead, and what it believes counts no more."""
        member = self.known[name]
        member.is_alive = False
        member.reads = set()
        self.log.do(Leave(name) if leaves else Expire(name, "silent"))

    @rule()
    def start_over(self) -> None:
        """A replica that begins with the rows is the same."""
        machine = GroupsMachine()
        machine.restore(self.log.machine.all_rows())
        assert machine.all_rows() == self.log.machine.all_rows()
        self.log.machine = machine

    @invariant()
    def nobody_reads_what_another_one_reads(self) -> None:
        readers = Counter(key for member in self.known.values() for key in member.reads)
        assert all(count == 1 for count in readers.values()), readers

    @invariant()
    def everything_that_is_read_has_a_target_and_an_owner(self) -> None:
        group = self.log.machine.groups.get("billing")
        if group is None:
            return
        read = {name for member in group.members.values() for name in member.topics}
        wanted = {key for one in TOPICS if one.name in read for key in one.every()}
        assert group.target.keys() == wanted
        assert group.owners.keys() >= wanted

    @invariant()
    def committed_offsets_are_those_that_were_acknowledged(self) -> None:
        group = self.log.machine.groups.get("billing")
        found = {} if group is None else {key: one.position.offset for key, one in group.offsets.items()}
        assert found == self.committed

    def teardown(self) -> None:
        """Once all have stopped what they have to, everybody has what it should."""
        for _ in range(2):
            for name, member in self.known.items():
                if member.is_alive:
                    self.stop_and_confirm(name, True)
        group = self.log.machine.groups.get("billing")
        if group is not None:
            assert {key: owner.member_id for key, owner in group.owners.items()} == group.target


TestStorm = Storm.TestCase
TestStorm.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_member_that_reads_nothing_else_is_told_of_nothing_else() -> None:
    log = Log()
    log.do(Join(joining("a", TOPICS[1]).member, None, TOPICS))
    assert {key.topic_id for key in log.group.assigned("a")} == {8}
