"""A member of a consumer group, as the coordinator sees it: heartbeats in the background.

join ──> told (epoch, assigned) ──> owner of this takes partitions up and gives others up ──> told again ...
                                      └── what is given up is confirmed at once
not heard in time, or unknown ──> lost: nothing that was assigned counts any more ──> join under another id
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from raftmq.client.coordinator import CoordinatorCalls
from raftmq.errors import FencedMember, InternalError, RaftmqError, StaleMember, UnknownMember
from raftmq.v1 import groups_pb2

Partition = tuple[str, int]
"""Topic and number."""

WAIT_MS = 5_000
"""How long a heartbeat waits for news; less where the session is short."""
RETRY_MS = 200
ANSWER_MARGIN_MS = 3_000
LEAVE_TIMEOUT_MS = 5_000


@dataclass(frozen=True, slots=True)
class MemberSettings:
    """See `Client.consumer`."""

    topics: tuple[str, ...]
    assignor: int
    session_timeout_ms: int
    rebalance_timeout_ms: int
    instance_id: str = ""
    rack: str = ""
    client_id: str = ""


class Owner(Protocol):
    """Who reads what is assigned. None of these waits."""

    def assigned(self, partitions: frozenset[Partition]) -> None:
        """All that may be read from now on."""

    def lost(self) -> None:
        """Nothing that was assigned may be read, and no commit of it counts."""

    def failed(self, error: RaftmqError) -> None:
        """This consumer can be no member of the group."""

    def reading(self) -> Iterable[Partition]:
        """What is being read, or may be yet."""


class Membership:
    """``start`` and ``leave`` once each, on one event loop."""

    def __init__(self, calls: CoordinatorCalls, settings: MemberSettings, owner: Owner) -> None:
        self.new_id: Callable[[], str] = lambda: uuid.uuid4().hex
        self.member_id = self.new_id()
        self.epoch = 0
        self._calls = calls
        self._settings = settings
        self._owner = owner
        self._assigned: frozenset[Partition] = frozenset()
        self._changed = asyncio.Event()
        self._renewed = asyncio.Event()
        self._valid_until = 0.0
        self._has_ended = False
        self._task: asyncio.Task[None] | None = None

    # -- for the owner ---------------------------------------------------------------------------------------------

    @property
    def is_valid(self) -> bool:
        """The session has surely not lapsed: whatever is assigned is nobody else's."""
        return self.epoch > 0 and asyncio.get_running_loop().time() < self._valid_until

    async def valid(self) -> None:
        """Return when the session is valid, or never will be."""
        while not self.is_valid and not self._has_ended:
            self._renewed.clear()
            await self._renewed.wait()

    def confirm(self) -> None:
        """What is read is another: say so at once."""
        self._changed.set()

    def refused(self, member_id: str) -> None:
        """A call under `member_id` was told that it is no member (any more). Nothing is read from this moment on, and a
        heartbeat asks at once, instead of when it is its turn: what it is told decides. (To join anew for what another
        call was told would be rash: under an instance id it would take the place of whoever has taken this one's.)"""
        if member_id != self.member_id or self.epoch == 0:
            return  # of somebody that this member is no longer
        self._assigned = frozenset()
        self._owner.lost()
        self._changed.set()

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"raftmq-member-{self._calls.group}")

    async def stop(self) -> None:
        """Send no more heartbeats; the membership lapses unless ``leave`` is called."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    async def leave(self) -> None:
        """Nothing is read any more: let others have it at once. If that cannot be told, the session lapses."""
        if self.epoch == 0:
            return
        request = groups_pb2.HeartbeatRequest(
            group=self._calls.group, member_id=self.member_id, member_epoch=self.epoch, leave=True
        )
        self.epoch = 0
        with contextlib.suppress(RaftmqError):
            await self._calls.call(lambda node: node.groups.Heartbeat, request, timeout_ms=LEAVE_TIMEOUT_MS)

    # -- heartbeats ------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            while True:
                await self._beat()
        except RaftmqError as error:
            self._owner.failed(error)
        except Exception as error:  # noqa: BLE001 - a bug here must reach the consumer, who would wait forever
            failure = InternalError(f"the membership failed: {error!r}")
            failure.__cause__ = error
            self._owner.failed(failure)
        self._has_ended = True
        self._renewed.set()

    async def _beat(self) -> None:
        """One heartbeat; answered, failed, or overtaken by something to confirm."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        self._changed.clear()
        call = asyncio.ensure_future(
            self._calls.once(
                lambda node: node.groups.Heartbeat, self._request(), timeout_ms=self._wait_ms + ANSWER_MARGIN_MS
            )
        )
        changed = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait({call, changed}, return_when=asyncio.FIRST_COMPLETED, timeout=self._patience_s())
            if call.done():
                self._take(call.result(), began)
            elif not changed.done():
                self._lapse()
        except (UnknownMember, StaleMember):
            self._lose()
        except FencedMember:
            self._lose()
            raise
        except RaftmqError as error:
            if not error.retriable:
                raise
            if self.epoch and loop.time() >= self._valid_until:
                self._lose()
            await asyncio.sleep(max(RETRY_MS, error.retry_after_ms) / 1000)
        finally:
            for future in (call, changed):
                future.cancel()
            await asyncio.gather(call, changed, return_exceptions=True)

    def _patience_s(self) -> float | None:
        """Until the session may have lapsed, if there is one."""
        if self.epoch == 0:
            return None
        return max(0.0, self._valid_until - asyncio.get_running_loop().time())

    @property
    def _wait_ms(self) -> int:
        return min(WAIT_MS, self._settings.session_timeout_ms // 3)

    def _request(self) -> groups_pb2.HeartbeatRequest:
        settings = self._settings
        request = groups_pb2.HeartbeatRequest(
            group=self._calls.group,
            member_id=self.member_id,
            member_epoch=self.epoch,
            instance_id=settings.instance_id,
            owned=to_proto(self._assigned | frozenset(self._owner.reading())),
        )
        if self.epoch == 0:
            request.topics.extend(settings.topics)
            request.rack, request.client_id = settings.rack, settings.client_id
            request.assignor = settings.assignor  # type: ignore[assignment]
            request.session_timeout.FromMilliseconds(settings.session_timeout_ms)
            request.rebalance_timeout.FromMilliseconds(settings.rebalance_timeout_ms)
        else:
            request.max_wait.FromMilliseconds(self._wait_ms)
        return request

    def _take(self, answer: groups_pb2.HeartbeatResponse, began: float) -> None:
        self._valid_until = began + self._settings.session_timeout_ms / 1000
        if asyncio.get_running_loop().time() >= self._valid_until:
            self._lose()  # on its way for a whole session: others may have been told since that it is theirs
            return
        self._renewed.set()
        self.epoch = answer.member_epoch
        assigned = frozenset((one.topic, number) for one in answer.assigned for number in one.partitions)
        if assigned != self._assigned:
            self._assigned = assigned
            self._owner.assigned(assigned)

    def _lapse(self) -> None:
        if self.epoch and asyncio.get_running_loop().time() >= self._valid_until:
            self._lose()

    def _lose(self) -> None:
        """Join anew, as somebody else: what this id was assigned may belong to others."""
        self.member_id, self.epoch = self.new_id(), 0
        self._assigned = frozenset()
        self._owner.lost()


def to_proto(partitions: Iterable[Partition]) -> list[groups_pb2.TopicPartitions]:
    """By topic, in order."""
    numbers: dict[str, list[int]] = {}
    for topic, number in sorted(partitions):
        numbers.setdefault(topic, []).append(number)
    return [groups_pb2.TopicPartitions(topic=topic, partitions=found) for topic, found in numbers.items()]
