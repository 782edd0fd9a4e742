"""The consumer that shares its topics with the other members of its group.

                                 Membership (heartbeats)
    assigned, lost ──────────────────┘        ^ reading, confirm
        v                                     │
    _Reconcile: give up (stop, wait for the record in hand, callback, commit) ──> take up (committed offsets, callback)
        v
    PartitionFetcher each ──> iteration ──> done ──> Commits

At most one partition's record is in the program's hands at a time: the one that the iteration gave last.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from types import TracebackType
from typing import Self

from raftmq.client.commits import CommitMetadata, Commits
from raftmq.client.coordinator import CoordinatorCalls
from raftmq.client.fetcher import FetchSettings, PartitionFetcher
from raftmq.client.group_types import GroupSettings, Owned, starting_offsets, tell
from raftmq.client.membership import MemberSettings, Membership, Partition
from raftmq.client.router import Router
from raftmq.client.types import ConsumedBatch, ConsumedRecord
from raftmq.errors import (
    FencedMember,
    InternalError,
    RaftmqError,
    StaleMember,
    UnknownMember,
    UnknownPartition,
)

RETRY_S = 0.2


class GroupConsumer:
    """Reads, in a group, the partitions that it is assigned. Made by `Client.consumer`; an ``async with`` block joins
    and leaves.

    A record that the iteration gave is *done* once the iteration is asked for the next one, or the block is left
    without an exception. What the commit modes guarantee, whatever members and nodes do:

    after    (default) commits what is done: every record is processed at least once. After a crash, records since the
             last commit come again, perhaps at another member.
    before   commits before it gives: every record is given at most once. A crash loses what was given and not
             processed.
    manual   commits when `commit` is called, and nothing by itself.
    none     commits nothing; every run begins where `start` says.

    Whoever paused longer than its session is no member any more: its partitions belong to others, and its commits are
    refused. It is told by ``on_lost``, joins anew, and goes on with what it is assigned then.
    """

    def __init__(
        self,
        topics: tuple[str, ...],
        router: Router,
        calls: CoordinatorCalls,
        fetch: FetchSettings,
        member: MemberSettings,
        settings: GroupSettings,
    ) -> None:
        self.topics = topics
        self.group = calls.group
        self._router = router
        self._fetch = fetch
        self._settings = settings
        self._is_static = bool(member.instance_id)
        self._membership = Membership(calls, member, self)
        self._commits = Commits(calls, self._membership, settings.timeout_ms)
        self._owned: dict[Partition, Owned] = {}
        self._taking: frozenset[Partition] = frozenset()
        self._wanted: frozenset[Partition] = frozenset()
        self._paused: set[Partition] = set()
        self._hand: Owned | None = None
        self._after_hand = 0
        self._hand_free = asyncio.Event()
        self._hand_free.set()
        self._turn: list[Owned] = []
        self._changed = asyncio.Event()
        self._lost: list[Partition] = []
        self._due = asyncio.Event()
        self._error: RaftmqError | None = None
        self._tasks: list[asyncio.Task[None]] = []

    # -- what it has -----------------------------------------------------------------------------------------------

    @property
    def assignment(self) -> tuple[Partition, ...]:
        """(topic, partition) of all that it reads now."""
        return tuple(sorted(key for key, owned in self._owned.items() if not owned.is_leaving))

    @property
    def member_id(self) -> str:
        return self._membership.member_id

    def position(self, topic: str, partition: int) -> int:
        """The offset after the last record that is done with. Raises UnknownPartition where another member reads it."""
        return self._find(topic, partition).done

    def pause(self, *partitions: Partition) -> None:
        """Give no records of these partitions (none named: of any) until `resume`. They stay assigned, as long as this
        member keeps them."""
        self._paused.update(partitions or self.assignment)

    def resume(self, *partitions: Partition) -> None:
        """None named: all."""
        self._paused.difference_update(partitions or list(self._paused))
        self._changed.set()

    # -- iteration -------------------------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ConsumedRecord:
        while True:
            self._free_hand()
            owned = await self._ready()
            if self._membership.is_valid and self._may_give(owned):
                record = owned.pending.popleft()
                self._give(owned, record.offset + 1 if owned.pending else owned.pending_end)
                return record
            await self._membership.valid()

    async def batches(self) -> AsyncIterator[ConsumedBatch]:
        """The same records, a batch at a time: a batch is done as a whole. Do not mix the two."""
        while True:
            self._free_hand()
            owned = await self._ready()
            batch = owned.batch
            if self._membership.is_valid and self._may_give(owned) and batch is not None:
                owned.pending.clear()
                self._give(owned, batch.next_offset)
                yield batch
            await self._membership.valid()

    async def commit(self, *, metadata: CommitMetadata = "") -> None:
        """Commit everything that the iteration has given so far, the last record included.

        `metadata` is kept beside the offsets, until a later commit replaces it: at most 4,096 bytes in UTF-8, one for
        all partitions, or one each; of those that are not read here any more it is passed over.
        ``client.groups.describe`` shows it.

        Raises StaleMember or UnknownMember where it belongs to others by now, InvalidArgument for too much metadata,
        the last error after the timeout.
        """
        offsets = {key: owned.done for key, owned in self._owned.items() if not owned.is_lost}
        if self._hand is not None:
            if self._hand.is_lost:
                raise UnknownMember("this consumer was taken for dead: what it has in hand belongs to others")
            offsets[self._hand.key] = self._after_hand
        refused = await self._commits.commit(offsets, metadata)
        for error in refused.values():
            raise error

    def _may_give(self, owned: Owned) -> bool:
        return not owned.is_leaving and owned.key not in self._paused

    def _give(self, owned: Owned, after: int) -> None:
        """Its next record is in the program's hand. Once its batch is used up, others come first."""
        self._hand, self._after_hand = owned, after
        self._hand_free.clear()
        if not owned.pending:
            self._turn = [one for one in self._turn if one is not owned] + [owned]

    def _free_hand(self) -> None:
        """The program came back for more: what it was given is done."""
        if self._hand is not None:
            self._hand.done = max(self._hand.done, self._after_hand)
            self._hand = None
            self._hand_free.set()

    async def _ready(self) -> Owned:
        """A partition with a record that may be given: the first in turn."""
        while True:
            self._changed.clear()
            if self._error is not None:
                raise self._error
            ready = next((owned for owned in self._turn if self._may_give(owned) and self._fill(owned)), None)
            if ready is None:
                await self._changed.wait()
            elif await self._may_begin(ready):
                return ready

    def _fill(self, owned: Owned) -> bool:
        """Whether it has a record to give."""
        if owned.pending:
            return True
        batch = owned.fetcher.take()
        if batch is None:
            return False
        owned.batch, owned.pending_end, owned.is_begun = batch, batch.next_offset, False
        owned.pending.extend(batch.records)
        return True

    async def _may_begin(self, owned: Owned) -> bool:
        """With "before" a batch is committed before its first record is given."""
        if owned.is_begun:
            return True
        if self._settings.commit == "before":
            try:
                if await self._commits.commit({owned.key: owned.pending_end}):
                    return False
            except (UnknownMember, StaleMember, FencedMember):
                await asyncio.sleep(RETRY_S)  # the next heartbeat tells the rest
                return False
        owned.is_begun = True
        return True

    # -- the block -------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        for topic in self.topics:
            await self._router.metadata.topic(topic)
        self._tasks = [asyncio.create_task(self._reconcile(), name=f"raftmq-rebalance-{self.group}")]
        if self._settings.commit == "after":
            self._tasks.append(asyncio.create_task(self._commit_often(), name=f"raftmq-commit-{self.group}"))
        self._membership.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if kind is None:
            self._free_hand()
        await self.close()

    async def close(self) -> None:
        """Stop reading, commit what is done, and leave the group at once; a member with an instance id does not leave:
        its partitions wait for its successor for as long as its session lasts."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._hand = None
        self._hand_free.set()
        try:
            if self._owned:
                await self._give_up(frozenset(self._owned))
        except RaftmqError:
            pass  # what is not committed comes again
        finally:
            await self._membership.stop()
            if not self._is_static:
                await self._membership.leave()

    # -- Owner, for the membership ---------------------------------------------------------------------------------

    def assigned(self, partitions: frozenset[Partition]) -> None:
        self._wanted = partitions
        self._due.set()

    def lost(self) -> None:
        """Nothing of it is given any more, from this moment on."""
        self._wanted = frozenset()
        self._lost += sorted(key for key, owned in self._owned.items() if not owned.is_lost)
        for owned in self._owned.values():
            owned.is_leaving = owned.is_lost = True
        self._due.set()

    def failed(self, error: RaftmqError) -> None:
        self._error = error
        self._changed.set()

    def reading(self) -> Iterable[Partition]:
        return [*(key for key, owned in self._owned.items() if not owned.is_lost), *self._taking]

    # -- rebalancing -----------------------------------------------------------------------------------------------

    async def _reconcile(self) -> None:
        """Follow what is assigned, one change after the other."""
        while True:
            self._due.clear()
            try:
                await self._drop_lost()
                if gone := frozenset(self._owned) - self._wanted:
                    await self._give_up(gone)
                if new := self._wanted - frozenset(self._owned):
                    await self._take_up(new)
            except UnknownMember:
                self._due.set()  # all of it is lost by now, and a heartbeat under way that tells the rest
            except StaleMember:
                await asyncio.sleep(RETRY_S)  # the next heartbeat tells the rest
                self._due.set()
            except RaftmqError as error:
                if not error.retriable:
                    self.failed(error)
                    return
                await asyncio.sleep(RETRY_S)
                self._due.set()
            except Exception as error:  # noqa: BLE001 - of a callback, say: it must reach the program
                failure = InternalError(f"rebalancing failed: {error!r}")
                failure.__cause__ = error
                self.failed(failure)
                return
            await self._due.wait()

    async def _drop_lost(self) -> None:
        lost, self._lost = self._lost, []
        if lost:
            await self._remove(lost)
            await tell(self._settings.on_lost or self._settings.on_revoked, lost)

    async def _give_up(self, gone: frozenset[Partition]) -> None:
        """Stop, let the record in hand be done with, commit, and let the coordinator know."""
        keys = sorted(gone)
        leaving = [self._owned[key] for key in keys]
        for owned in leaving:
            owned.is_leaving = True
        if self._hand in leaving:
            try:
                async with asyncio.timeout(self._settings.revoke_wait_ms / 1000):
                    await self._hand_free.wait()
            except TimeoutError:
                pass  # it will come again, to whoever gets the partition
        await tell(self._settings.on_revoked, keys)
        try:
            if self._settings.commit == "after":
                await self._commits.commit({owned.key: owned.done for owned in leaving})
        except (UnknownMember, StaleMember):
            pass  # it is others' already
        await self._remove(keys)
        self._membership.confirm()

    async def _remove(self, keys: Sequence[Partition]) -> None:
        removed = [self._owned.pop(key) for key in keys if key in self._owned]
        self._turn = [owned for owned in self._turn if owned not in removed]
        self._paused.difference_update(keys)
        for owned in removed:
            await owned.fetcher.stop()

    async def _take_up(self, new: frozenset[Partition]) -> None:
        """Read from where the group has come to."""
        self._taking, member_id = new, self._membership.member_id
        try:
            await self._commits.fetch(sorted(new))
            known = {} if self._settings.commit == "none" else self._commits.committed
            starts = await starting_offsets(self._router, self._settings, known, new)
            if not new <= self._wanted or self._membership.member_id != member_id:
                self._due.set()
                return  # it was taken back meanwhile, some or all of it: look again
            if not self._membership.is_valid:
                raise StaleMember("the session may be over: it may be others' by now")
            for key in sorted(new):
                fetcher = PartitionFetcher(
                    *key, self._router, self._fetch, start=starts[key], end=None, on_change=self._changed.set
                )
                self._owned[key] = Owned(key, fetcher, starts[key])
                self._turn.append(self._owned[key])
                fetcher.start()
        finally:
            self._taking = frozenset()
        await tell(self._settings.on_assigned, sorted(new))

    # -- commits ---------------------------------------------------------------------------------------------------

    async def _commit_often(self) -> None:
        """What is done, now and then. What fails is tried again with the next."""
        while True:
            await asyncio.sleep(self._settings.commit_interval_ms / 1000)
            offsets = {key: owned.done for key, owned in self._owned.items() if not owned.is_leaving}
            try:
                await self._commits.commit(offsets)
            except (UnknownMember, StaleMember, FencedMember):
                continue  # the next heartbeat tells the rest
            except RaftmqError as error:
                if not error.retriable:
                    self.failed(error)
                    return

    def _find(self, topic: str, partition: int) -> Owned:
        owned = self._owned.get((topic, partition))
        if owned is None:
            raise UnknownPartition(f"this consumer does not read {topic}/{partition} now", field="partition")
        return owned
