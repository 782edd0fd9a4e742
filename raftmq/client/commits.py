"""Committed offsets of a consumer group, from a member's side."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from raftmq import status
from raftmq.client.coordinator import CoordinatorCalls
from raftmq.client.membership import Membership, Partition, to_proto
from raftmq.client.retry import Doubt
from raftmq.errors import FencedMember, RaftmqError, UnknownMember
from raftmq.v1 import groups_pb2


class Commits:
    """One at a time, so that a later one is never overtaken by an earlier one."""

    def __init__(self, calls: CoordinatorCalls, membership: Membership, timeout_ms: int) -> None:
        self.committed: dict[Partition, int] = {}
        """What this member knows to be committed."""
        self._calls = calls
        self._membership = membership
        self._timeout_ms = timeout_ms
        self._one = asyncio.Lock()

    async def fetch(self, partitions: Iterable[Partition]) -> None:
        """Learn what is committed for `partitions`. Raises UnknownMember and the like."""
        request = groups_pb2.FetchOffsetsRequest(
            group=self._calls.group,
            topics=to_proto(partitions),
            member_id=self._membership.member_id,
            member_epoch=self._membership.epoch,
        )
        with self._told(request.member_id):
            answer = await self._calls.call(lambda node: node.groups.FetchOffsets, request, timeout_ms=self._timeout_ms)
        for partition in partitions:
            self.committed.pop(partition, None)
        for one in answer.offsets:
            self.committed[one.topic, one.partition] = one.offset

    async def commit(self, offsets: Mapping[Partition, int]) -> dict[Partition, RaftmqError]:
        """Commit those that are new; returns what was refused. Raises what refused all of them: UnknownMember,
        StaleMember, or the last error after the timeout. An outcome is that of all attempts."""
        # Of now: this may have to wait, and be somebody else by then, who never read what `offsets` are about.
        member_id, member_epoch = self._membership.member_id, self._membership.epoch
        async with self._one:
            wanted = {key: offset for key, offset in offsets.items() if self.committed.get(key, -1) < offset}
            if not wanted:
                return {}
            request = groups_pb2.CommitOffsetsRequest(
                group=self._calls.group,
                member_id=member_id,
                member_epoch=member_epoch,
                offsets=[
                    groups_pb2.OffsetToCommit(topic=topic, partition=number, offset=offset)
                    for (topic, number), offset in sorted(wanted.items())
                ],
            )
            doubt = Doubt()
            with self._told(member_id):
                answer = await self._calls.call(
                    lambda node: node.groups.CommitOffsets, request, timeout_ms=self._timeout_ms, doubt=doubt
                )
            refused = {(one.topic, one.partition): doubt.of(status.from_message(one.error)) for one in answer.refused}
            self.committed.update({key: offset for key, offset in wanted.items() if key not in refused})
            return refused

    @contextmanager
    def _told(self, member_id: str) -> Iterator[None]:
        """Let the membership know where `member_id` is told that it is no member."""
        try:
            yield
        except (UnknownMember, FencedMember):
            self._membership.refused(member_id)
            raise
