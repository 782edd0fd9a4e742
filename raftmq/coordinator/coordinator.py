"""Answers members from what is applied, and writes only what changes: joins, leaves, confirmations, expiries, commits.

Heartbeat ──> session heard (memory) ──> anything to write? ── no ──> answer from the applied state
                                              └─ yes ──> Proposals ──> log ──> applied ──> answer
run       ──> sessions that lapsed, topics that changed ──> Proposals
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from raftmq.coordinator.proposals import COMMAND_TIMEOUT_MS, Host, Proposals
from raftmq.coordinator.sessions import GRACE_MS, Sessions
from raftmq.errors import NotReady, RaftmqError, StaleMember, UnknownGroup, UnknownMember
from raftmq.groups.commands import Change, Commit, Confirm, Expire, Forget, Join, Leave, Rest, TopicsChanged
from raftmq.groups.group import ConsumerGroup
from raftmq.groups.machine import GroupsMachine
from raftmq.groups.types import Assignor, Member, TopicFacts, TopicPartition
from raftmq.ids import GroupId, Tick
from raftmq.metadata.features import OFFSETS_EXPIRE
from raftmq.metadata.image import MetadataImage, TopicRecord
from raftmq.ports import Clock
from raftmq.records.topic_kinds import TopicKind

_log = structlog.get_logger(__name__)

REST_LOOK_MS = 60_000
"""How often groups without members are looked for."""
TIME_PASSES_MS = 3_600_000
"""A new leader knows no later time than that of the last entry: so much of a group's rest is lost to it at most."""
CONDEMNED_RETRY_MS = 100
"""When a member that is being taken for dead should ask whether it is."""
INTERVAL_S = 0.2
"""How often lapsed sessions and changed topics are looked for."""


@dataclass(frozen=True, slots=True)
class Beat:
    """What a member says of itself. `member.topics` empty: as before."""

    member: Member
    epoch: int
    assignor: Assignor | None
    owned: frozenset[TopicPartition]
    leave: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """What a member is told."""

    epoch: int
    assigned: tuple[TopicPartition, ...]
    topics: dict[int, str]
    """Names of the topics in `assigned`, by id."""
    session_timeout_ms: int
    is_settled: bool
    """It has all that it is to have, and nothing to give up."""


class Coordinator:
    """One per node; it acts for the groups that the node leads. ``run`` until cancelled.

    `image`: the metadata as this node knows it; `is_current`: what it does not show does not exist.
    `offsets_retention_ms`: how long a group without members is remembered; 0: for ever.
    """

    def __init__(
        self,
        host: Host,
        image: Callable[[], MetadataImage],
        is_current: Callable[[], bool],
        clock: Clock,
        offsets_retention_ms: int = 0,
    ) -> None:
        self.proposals = Proposals(host, clock)
        self.grace_ms = GRACE_MS
        """What members are given beyond their sessions by a coordinator that has only just been elected."""
        self._host = host
        self._image = image
        self._is_current = is_current
        self._clock = clock
        self._sessions: dict[GroupId, Sessions] = {}
        self._news: dict[tuple[GroupId, str], asyncio.Event] = {}
        self._offsets_retention_ms = offsets_retention_ms
        self._next_rest: dict[GroupId, Tick] = {}
        self._tending: dict[GroupId, asyncio.Task[None]] = {}
        self._checked: dict[GroupId, tuple[MetadataImage, int]] = {}
        # The image, and the sum of all groups' epochs, that the topics were last compared at.

    # -- what the applied state says -------------------------------------------------------------------------------

    def machine(self, at: GroupId) -> GroupsMachine:
        """The groups that the Raft group `at` coordinates, as applied. Raises NotLeader, NoLeader."""
        machine = self.proposals.led(at).machine
        assert isinstance(machine, GroupsMachine), f"group {at} coordinates no consumer groups"
        return machine

    async def confirmed(self, at: GroupId, timeout_ms: int) -> GroupsMachine:
        """The same, with everything that was answered before the call, by whatever node."""
        await self._host.barrier(at, timeout_ms)
        return self.machine(at)

    def group(self, at: GroupId, name: str) -> ConsumerGroup:
        """Raises NotLeader, NoLeader, UnknownGroup."""
        group = self.machine(at).groups.get(name)
        if group is None:
            raise UnknownGroup(f"there is no group {name}", field="group")
        return group

    def led_groups(self) -> list[ConsumerGroup]:
        """Those that this node coordinates now, by name."""
        groups = (group for at in self._led() for group in self.machine(at).groups.values())
        return sorted(groups, key=lambda group: group.name)

    def silence_ms(self, at: GroupId, name: str, member_id: str) -> int:
        """Milliseconds since the member was heard, or since this coordinator began."""
        return self._session(at).silence(name, member_id, self._clock.tick())

    # -- changes ---------------------------------------------------------------------------------------------------

    async def change(self, at: GroupId, name: str, change: Change, timeout_ms: int) -> list[RaftmqError | None]:
        """See ``Proposals.change``. What is refused by what is applied already is not proposed."""
        self.machine(at).expect_possible(name, change)
        try:
            return await self.proposals.change(at, name, change, timeout_ms)
        finally:
            if not isinstance(change, Commit):
                self._tell(at, name)

    async def heartbeat(self, at: GroupId, name: str, beat: Beat, wait_ms: int, timeout_ms: int) -> Standing:
        """Take in what a member says, and answer when that is news to it, at the latest after `wait_ms`.

        Raises UnknownMember, FencedMember, StaleMember, PreconditionFailed, NotReady while it is being taken for dead,
        and what ``change`` raises.
        """
        member_id = beat.member.member_id
        if beat.leave:
            await self.change(at, name, Leave(member_id), timeout_ms)
            return Standing(0, (), {}, beat.member.session_timeout_ms, True)
        change = self._wanted(at, name, beat)
        if change is not None:
            await self.change(at, name, change, timeout_ms)
        deadline = asyncio.get_running_loop().time() + wait_ms / 1000
        member = self._member(at, name, beat)
        self._expect_trusted(at, name, member_id)
        self._session(at).heard(name, member_id, member.session_timeout_ms, self._clock.tick())
        while True:
            standing = self._standing(at, name, beat)
            self._expect_trusted(at, name, member_id)
            left_s = deadline - asyncio.get_running_loop().time()
            is_news = standing.epoch != beat.epoch or not beat.owned.issuperset(standing.assigned)
            if is_news or left_s <= 0:
                return standing
            await self._wait(at, name, left_s)

    def _wanted(self, at: GroupId, name: str, beat: Beat) -> Change | None:
        """What has to be written for `beat`."""
        group = self.machine(at).groups.get(name)
        wish = beat.member
        if beat.epoch == 0:
            return Join(wish, beat.assignor, self._facts(wish.topics))
        known = self._member(at, name, beat)
        assert group is not None
        if beat.epoch > group.epoch:
            raise StaleMember(f"{beat.epoch} is no epoch of group {name} yet", field="member_epoch")
        if wish.topics and tuple(sorted(set(wish.topics))) != known.topics:
            merged = Member(
                known.member_id, wish.topics, known.session_timeout_ms, known.rebalance_timeout_ms, known.joined_epoch,
                known.instance_id, known.client_id, known.rack,
            )  # fmt: skip
            return Join(merged, None, self._facts(wish.topics))
        given_up = tuple(
            key
            for key in group.revoking(known.member_id)
            if key not in beat.owned and group.owners[key].revoked <= beat.epoch
        )
        return Confirm(known.member_id, beat.epoch, given_up) if given_up else None

    def _expect_trusted(self, at: GroupId, name: str, member_id: str) -> None:
        if self._session(at).is_condemned(name, member_id):
            raise NotReady("the member is being taken for dead", field="member_id", retry_after_ms=CONDEMNED_RETRY_MS)

    def _member(self, at: GroupId, name: str, beat: Beat) -> Member:
        group = self.machine(at).groups.get(name)
        if group is None:
            raise UnknownMember(f"group {name} has no members", field="member_id")
        return group.member(beat.member.member_id, beat.member.instance_id)

    def _standing(self, at: GroupId, name: str, beat: Beat) -> Standing:
        member = self._member(at, name, beat)
        group = self.machine(at).groups[name]
        assigned = group.assigned(member.member_id)
        mine = sum(owner == member.member_id for owner in group.target.values())
        is_settled = mine == len(assigned) and not group.revoking(member.member_id)
        names = {topic.topic_id: topic.name for topic in group.facts.values()}
        return Standing(group.epoch, assigned, names, member.session_timeout_ms, is_settled)

    # -- waiting ---------------------------------------------------------------------------------------------------

    async def _wait(self, at: GroupId, name: str, wait_s: float) -> None:
        news = self._news.setdefault((at, name), asyncio.Event())
        try:
            async with asyncio.timeout(wait_s):
                await news.wait()
        except TimeoutError:
            pass

    def _tell(self, at: GroupId, name: str) -> None:
        news = self._news.pop((at, name), None)
        if news is not None:
            news.set()

    # -- upkeep ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look after the groups that this node coordinates."""
        try:
            while True:
                await asyncio.sleep(INTERVAL_S)
                self.look()
        finally:
            for task in self._tending.values():
                task.cancel()

    def look(self) -> None:
        """Once: expire members, follow topics, and wake those who wait at a node that coordinates no more.

        Each Raft group is tended by itself: one that has no quorum holds up none of the others.
        """
        now = self._clock.tick()
        led = self._led()
        for at in self._sessions.keys() - set(led):
            del self._sessions[at]
            self._checked.pop(at, None)
        for at, name in list(self._news):
            if at not in led:
                self._tell(at, name)
        for at, task in list(self._tending.items()):
            if task.done():
                del self._tending[at]
                task.result()
        for at in led:
            if at not in self._tending and (due := self._due(at, now)):
                self._tending[at] = asyncio.create_task(self._tend(at, due), name=f"tend-groups-{at}")

    def _due(self, at: GroupId, now: Tick) -> list[tuple[str, Change]]:
        due: list[tuple[str, Change]] = []
        for name, member_id, why in self._session(at).lapsed(now):
            _log.info("consumer is taken for dead", group=name, member=member_id, reason=why)
            due.append((name, Expire(member_id, why)))
        return due + self._changed_topics(at) + self._resting(at, now)

    async def _tend(self, at: GroupId, due: list[tuple[str, Change]]) -> None:
        """Whatever is refused, or not committed in time, is found due again."""
        sessions = self._sessions.get(at)
        answers = await asyncio.gather(
            *(self.change(at, name, change, COMMAND_TIMEOUT_MS) for name, change in due), return_exceptions=True
        )
        if any(isinstance(answer, BaseException) for answer in answers):
            self._checked.pop(at, None)
        for (name, change), answer in zip(due, answers, strict=True):
            is_decided = not isinstance(answer, BaseException) or isinstance(answer, UnknownMember | UnknownGroup)
            if sessions is not None and isinstance(change, Expire) and is_decided:
                sessions.decided(name, change.member_id)
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, RaftmqError):
                raise answer

    def _led(self) -> list[GroupId]:
        led = self._host.replicas.led.items()
        return sorted(at for at, group in led if isinstance(group.machine, GroupsMachine) and group.can_serve())

    def _session(self, at: GroupId) -> Sessions:
        """Of this term: a coordinator's own again after another one's has heard nobody since."""
        group = self.proposals.led(at)
        known = self._sessions.get(at)
        if known is None or known.term != group.node.term:
            known = self._sessions[at] = Sessions(group.node.term, self.machine(at), self._clock.tick(), self.grace_ms)
        return known

    def _resting(self, at: GroupId, now: Tick) -> list[tuple[str, Change]]:
        """For groups without members: that they rest, and in the end that they are forgotten. Time is the log's, which
        only passes while somebody leads; entries take it along, so one comes now and then while a group rests."""
        if now < self._next_rest.get(at, Tick(0)) or self._image().cluster_version < OFFSETS_EXPIRE:
            return []
        self._next_rest[at] = Tick(now + REST_LOOK_MS)
        machine, retention = self.machine(at), self._offsets_retention_ms
        log_tick = self.proposals.led(at).stamp(now, self._clock.wall_ms())[0]
        due: list[tuple[str, Change]] = []
        for name, group in sorted(machine.groups.items()):
            if group.members or not retention:
                continue
            if not group.resting_since:
                due.append((name, Rest()))
            elif log_tick - retention >= max(group.resting_since, group.last_committed):
                due.append((name, Forget(group.resting_since, log_tick - retention)))
            elif not due and log_tick - machine.log_tick >= TIME_PASSES_MS:
                due.append((name, Rest()))
        return due

    def _changed_topics(self, at: GroupId) -> list[tuple[str, Change]]:
        """For groups that know other topics than there are. Not while this node may not know of all."""
        image, machine = self._image(), self.machine(at)
        epochs = sum(group.epoch for group in machine.groups.values())
        checked, checked_epochs = self._checked.get(at, (None, 0))
        if (checked is image and checked_epochs == epochs) or not self._is_current():
            return []
        self._checked[at] = (image, epochs)
        present = {topic.topic_id for topic in image.topics.values()}
        changes: list[tuple[str, Change]] = []
        for name, group in sorted(machine.groups.items()):
            facts = self._facts(sorted({topic for member in group.members.values() for topic in member.topics}))
            known = {key.topic_id for key in (*group.offsets, *group.owners)}
            deleted = tuple(sorted(known - present))
            if deleted or {topic.name: topic for topic in facts} != group.facts:
                changes.append((name, TopicsChanged(facts, deleted)))
        return changes

    def _facts(self, names: tuple[str, ...] | list[str]) -> tuple[TopicFacts, ...]:
        image = self._image()
        found = (image.topics.get(name) for name in names)
        return tuple(
            _facts_of(topic, image) for topic in found if topic is not None and topic.kind is TopicKind.RECORDS
        )


def _facts_of(topic: TopicRecord, image: MetadataImage) -> TopicFacts:
    racks = tuple(
        frozenset(
            image.nodes[replica.node].rack
            for replica in partition.replicas
            if replica.node in image.nodes and image.nodes[replica.node].rack
        )
        for partition in topic.partitions
    )
    return TopicFacts(topic.name, topic.topic_id, len(topic.partitions), racks if any(racks) else ())
