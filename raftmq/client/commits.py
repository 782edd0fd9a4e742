"""Commits of a consumer group's offsets: a member's, and those of a program that is none."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from raftmq import status
from raftmq.client.coordinator import CoordinatorCalls
from raftmq.client.membership import Membership, Partition, to_proto
from raftmq.client.retry import Doubt
from raftmq.errors import FencedMember, InvalidArgument, RaftmqError, UnknownMember
from raftmq.v1 import groups_pb2

CommitMetadata = str | Mapping[Partition, str]
"""The program's own, at most 4,096 bytes beside each offset: one for all, or of those partitions that it names."""


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

    async def commit(
        self, offsets: Mapping[Partition, int], metadata: CommitMetadata = ""
    ) -> dict[Partition, RaftmqError]:
        """Commit those that are new, or come with metadata; returns what was refused. Raises what refused all of them:
        UnknownMember, StaleMember, or the last error after the timeout. An outcome is that of all attempts."""
        beside = _of_each(metadata, offsets)
        # Of now: this may have to wait, and be somebody else by then, who never read what `offsets` are about.
        member_id, member_epoch = self._membership.member_id, self._membership.epoch
        async with self._one:
            wanted = {key: offset for key, offset in offsets.items() if self._is_news(key, offset, key in beside)}
            if not wanted:
                return {}
            request = groups_pb2.CommitOffsetsRequest(
                group=self._calls.group,
                member_id=member_id,
                member_epoch=member_epoch,
                offsets=_to_commit(wanted, beside),
            )
            with self._told(member_id):
                refused = await _ask(self._calls, request, self._timeout_ms)
            self.committed.update({key: offset for key, offset in wanted.items() if key not in refused})
            return refused

    def _is_news(self, key: Partition, offset: int, has_metadata: bool) -> bool:
        known = self.committed.get(key, -1)
        return known < offset or (known == offset and has_metadata)

    @contextmanager
    def _told(self, member_id: str) -> Iterator[None]:
        """Let the membership know where `member_id` is told that it is no member."""
        try:
            yield
        except (UnknownMember, FencedMember):
            self._membership.refused(member_id)
            raise


async def commit_outside(
    calls: CoordinatorCalls, offsets: Mapping[Partition, int], metadata: CommitMetadata, timeout_ms: int
) -> dict[Partition, RaftmqError]:
    """The commit of a program that is no member; returns what was refused. Raises what refused all of them:
    GroupNotEmpty, InvalidArgument, or the last error after the timeout. An outcome is that of all attempts."""
    beside = _of_each(metadata, offsets)
    if not isinstance(metadata, str) and (strange := sorted(metadata.keys() - offsets.keys())):
        raise InvalidArgument(f"names partitions of which no offset is given: {strange}", field="metadata")
    request = groups_pb2.CommitOffsetsRequest(group=calls.group, offsets=_to_commit(offsets, beside))
    return await _ask(calls, request, timeout_ms)


def _of_each(metadata: CommitMetadata, offsets: Mapping[Partition, int]) -> dict[Partition, str]:
    """Of those partitions that have some."""
    if isinstance(metadata, str):
        return dict.fromkeys(offsets, metadata) if metadata else {}
    return {key: metadata[key] for key in offsets if key in metadata}


def _to_commit(offsets: Mapping[Partition, int], beside: Mapping[Partition, str]) -> list[groups_pb2.OffsetToCommit]:
    """In order. Raises InvalidArgument for what is no offset at all."""
    found: list[groups_pb2.OffsetToCommit] = []
    for (topic, number), offset in sorted(offsets.items()):
        text = beside.get((topic, number), "")
        try:
            found.append(groups_pb2.OffsetToCommit(topic=topic, partition=number, offset=offset, metadata=text))
        except (TypeError, ValueError) as error:
            raise InvalidArgument(f"{topic}/{number} at {offset!r}: {error}", field="offsets") from error
    return found


async def _ask(
    calls: CoordinatorCalls, request: groups_pb2.CommitOffsetsRequest, timeout_ms: int
) -> dict[Partition, RaftmqError]:
    doubt = Doubt()
    answer = await calls.call(lambda node: node.groups.CommitOffsets, request, timeout_ms=timeout_ms, doubt=doubt)
    return {(one.topic, one.partition): doubt.of(status.from_message(one.error)) for one in answer.refused}
