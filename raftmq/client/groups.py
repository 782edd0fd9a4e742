"""Consumer groups from outside, and how a consumer becomes a member of one."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, TypedDict, Unpack

from raftmq.client.commits import CommitMetadata, commit_outside
from raftmq.client.coordinator import CoordinatorCalls
from raftmq.client.fetcher import FetchSettings
from raftmq.client.group_consumer import GroupConsumer
from raftmq.client.group_types import CommitMode, GroupSettings, GroupStart, RebalanceCallback
from raftmq.client.membership import MemberSettings, Partition
from raftmq.client.retry import may_retry_read
from raftmq.client.router import Router
from raftmq.client.types import Isolation
from raftmq.errors import InvalidArgument
from raftmq.v1 import groups_pb2

AssignorName = Literal["sticky", "rack_aware", "uniform"]
_ASSIGNORS: dict[str, groups_pb2.Assignor.ValueType] = {
    "": groups_pb2.ASSIGNOR_UNSPECIFIED,
    "sticky": groups_pb2.ASSIGNOR_STICKY,
    "rack_aware": groups_pb2.ASSIGNOR_RACK_AWARE,
    "uniform": groups_pb2.ASSIGNOR_UNIFORM,
}
TIMEOUT_MS = 30_000
_HOUR_MS = 3_600_000


class GroupOptions(TypedDict, total=False):
    """How a member of a group reads. All may be left out."""

    start: GroupStart
    """Where the group has committed nothing: "earliest" (the default: nothing is skipped), "latest", or "error"."""
    commit: CommitMode
    """"after" (the default), "before", "manual" or "none": see `GroupConsumer` for what each guarantees."""
    commit_interval_ms: int
    """With "after": how often. 1,000."""
    assignor: AssignorName
    """How partitions are dealt; the last member to name one decides. "sticky"."""
    instance_id: str
    """A name that outlives this process. Whoever joins under it next gets the same partitions at once, and they are
    kept for it as long as a session lasts."""
    session_timeout_ms: int
    """Not heard for so long, a member is taken for dead. 30,000; from 1,000."""
    rebalance_timeout_ms: int
    """So long a member may take to give partitions up. 60,000; from 1,000."""
    on_assigned: RebalanceCallback
    """Called with the partitions that came, before their first record; it may be asynchronous."""
    on_revoked: RebalanceCallback
    """Called with the partitions that are given up: nothing more of them is given, and they may still be committed."""
    on_lost: RebalanceCallback
    """Called with the partitions that were taken away, because this member was not heard: others may read them
    already. ``on_revoked`` where there is none."""
    on_trimmed: Literal["error", "earliest"]
    """Where records were removed before they were read. "error"."""
    rack: str
    """Partitions with a replica in this rack are preferred, and read there where it is in sync."""
    client_id: str
    """What people see in the group's description. Host and process id."""
    isolation: Isolation
    max_bytes: int
    max_wait_ms: int
    prefetch_bytes: int
    unavailable_timeout_ms: int
    """As of a consumer without a group."""


def group_consumer(
    router: Router, topics: tuple[str, ...], group: str, **options: Unpack[GroupOptions]
) -> GroupConsumer:
    """See `Client.group_consumer`."""
    if not topics:
        raise InvalidArgument("names no topic", field="topic")
    commit, start = options.get("commit", "after"), options.get("start", "earliest")
    if commit not in ("after", "before", "manual", "none"):
        raise InvalidArgument(f'commit is "after", "before", "manual" or "none", not {commit!r}', field="commit")
    if start not in ("earliest", "latest", "error"):
        raise InvalidArgument(f'start is "earliest", "latest" or "error" in a group, not {start!r}', field="start")
    if options.get("assignor", "") not in _ASSIGNORS:
        raise InvalidArgument(f"assignor is one of {sorted(_ASSIGNORS)[1:]}", field="assignor")
    session_ms = _in_range(options, "session_timeout_ms", 30_000, 1_000, _HOUR_MS)
    rebalance_ms = _in_range(options, "rebalance_timeout_ms", 60_000, 1_000, _HOUR_MS)
    member = MemberSettings(
        topics=tuple(dict.fromkeys(topics)),
        assignor=_ASSIGNORS[options.get("assignor", "")],
        session_timeout_ms=session_ms,
        rebalance_timeout_ms=rebalance_ms,
        instance_id=options.get("instance_id", ""),
        rack=options.get("rack", ""),
        client_id=options.get("client_id", f"{socket.gethostname()}/{os.getpid()}"),
    )
    settings = GroupSettings(
        commit=commit,
        commit_interval_ms=_in_range(options, "commit_interval_ms", 1_000, 1, _HOUR_MS),
        start=start,
        timeout_ms=min(TIMEOUT_MS, session_ms),
        revoke_wait_ms=rebalance_ms // 2,
        on_assigned=options.get("on_assigned"),
        on_revoked=options.get("on_revoked"),
        on_lost=options.get("on_lost"),
    )
    return GroupConsumer(topics, router, CoordinatorCalls(router, group), _fetch_settings(options), member, settings)


def _fetch_settings(options: GroupOptions) -> FetchSettings:
    return FetchSettings(
        max_bytes=_in_range(options, "max_bytes", 1024 * 1024, 1, 8 * 1024 * 1024),
        max_wait_ms=_in_range(options, "max_wait_ms", 1_000, 0, 60_000),
        isolation=options.get("isolation", Isolation.COMMITTED),
        prefetch_bytes=_in_range(options, "prefetch_bytes", 4 * 1024 * 1024, 1, 2**31 - 1),
        unavailable_timeout_ms=_in_range(options, "unavailable_timeout_ms", 120_000, 1, 2**31 - 1),
        skip_trimmed=options.get("on_trimmed", "error") == "earliest",
        rack=options.get("rack", ""),
    )


def _in_range(options: GroupOptions, name: str, default: int, low: int, high: int) -> int:
    value: int = options.get(name, default)  # type: ignore[assignment]
    if not low <= value <= high:
        raise InvalidArgument(f"{name} is {value}, not in {low} to {high}", field=name)
    return value


# -- from outside ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GroupSummary:
    group: str
    members: int
    epoch: int
    topics: tuple[str, ...]
    """That members read."""


@dataclass(frozen=True, slots=True)
class GroupMemberDescription:
    member_id: str
    instance_id: str
    client_id: str
    rack: str
    topics: tuple[str, ...]
    assigned: tuple[Partition, ...]
    revoking: tuple[Partition, ...]
    """What it has to give up, and has not confirmed."""
    session_timeout_ms: int
    last_heard_ms: int
    """Since its coordinator heard it."""


@dataclass(frozen=True, slots=True)
class GroupPartitionDescription:
    topic: str
    partition: int
    committed: int | None
    metadata: str
    committed_at_ms: int | None
    """Since the Unix epoch."""
    member_id: str
    """Empty: nobody reads it now."""
    high_watermark: int | None
    lag: int | None
    """Records; None, as the one above, where the leader could not tell."""
    lag_ms: int | None
    """Since the first of them was appended."""


@dataclass(frozen=True, slots=True)
class GroupDescription:
    group: str
    epoch: int
    assignor: str
    members: tuple[GroupMemberDescription, ...]
    partitions: tuple[GroupPartitionDescription, ...]
    coordinator: int | None
    """Node id."""


@dataclass(frozen=True, slots=True)
class OffsetReset:
    partition: int
    before: int | None
    after: int


class Groups:
    """``client.groups``."""

    def __init__(self, router: Router) -> None:
        self._router = router

    async def list(self, *, timeout_ms: int = TIMEOUT_MS) -> tuple[GroupSummary, ...]:
        """All groups that have members or committed offsets, by name."""
        answer = await self._router.to_any(
            lambda node: node.groups.ListConsumerGroups,
            groups_pb2.ListConsumerGroupsRequest(),
            timeout_ms=timeout_ms,
            judge=may_retry_read,
        )
        return tuple(GroupSummary(one.group, one.members, one.group_epoch, tuple(one.topics)) for one in answer.groups)

    async def describe(self, group: str, *, lag: bool = True, timeout_ms: int = TIMEOUT_MS) -> GroupDescription:
        """Members, partitions, and how far behind they are. Raises UnknownGroup."""
        request = groups_pb2.DescribeConsumerGroupRequest(group=group, without_lag=not lag)
        calls = CoordinatorCalls(self._router, group)
        answer = await calls.call(lambda node: node.groups.DescribeConsumerGroup, request, timeout_ms=timeout_ms)
        return _described(answer)

    async def committed(self, group: str, *, timeout_ms: int = TIMEOUT_MS) -> dict[Partition, int]:
        """Committed offsets; covers every commit that was acknowledged before. Raises UnknownGroup."""
        request = groups_pb2.FetchOffsetsRequest(group=group)
        calls = CoordinatorCalls(self._router, group)
        answer = await calls.call(lambda node: node.groups.FetchOffsets, request, timeout_ms=timeout_ms)
        return {(one.topic, one.partition): one.offset for one in answer.offsets}

    async def commit_offsets(
        self,
        group: str,
        offsets: Mapping[Partition, int],
        *,
        metadata: CommitMetadata = "",
        timeout_ms: int = TIMEOUT_MS,
    ) -> None:
        """Commit for a program that reads the partitions without being a member: for each (topic, number) the next
        offset to be read. A group that is not there is made by it.

        Only while the group has no members, and only forwards; `reset` goes back. `metadata`: at most 4,096 bytes in
        UTF-8, for all or for each, kept beside the offset until a later commit replaces it. Safe to repeat.

        Raises GroupNotEmpty, UnknownTopic, UnknownPartition, InvalidArgument; PreconditionFailed where something
        further is committed (``metadata["committed_offset"]`` of the error). Each offset stands by itself: where some
        are refused, the first of their errors is raised, and names all of them in ``metadata["refused"]``, as in
        "orders/0 orders/3"; the others are committed.
        """
        refused = await commit_outside(CoordinatorCalls(self._router, group), offsets, metadata, timeout_ms)
        for error in refused.values():
            error.metadata["refused"] = " ".join(f"{topic}/{number}" for topic, number in sorted(refused))
            raise error

    async def reset(
        self,
        group: str,
        topic: str,
        to: Literal["earliest", "latest"] | int | datetime | None = None,
        *,
        shift: int | None = None,
        partitions: Sequence[int] = (),
        dry_run: bool = False,
        timeout_ms: int = TIMEOUT_MS,
    ) -> tuple[OffsetReset, ...]:
        """Set the offsets of a group without members: to a place, an offset, a time (with a time zone: the first record
        appended then or later), or `shift` records on from where it is. `partitions` empty: all.

        Raises GroupNotEmpty, UnknownTopic, InvalidArgument naming the parameter.
        """
        request = groups_pb2.ResetOffsetsRequest(
            group=group, topic=groups_pb2.TopicPartitions(topic=topic, partitions=partitions), dry_run=dry_run
        )
        if (to is None) == (shift is None):
            raise InvalidArgument("either a place, or a shift", field="to")
        if shift is not None:
            request.shift = shift
        elif isinstance(to, datetime):
            if to.tzinfo is None:
                raise InvalidArgument("a time needs a time zone: whose clock is meant?", field="to")
            request.appended_at.FromDatetime(to)
        elif isinstance(to, int):
            request.offset = to
        elif to == "earliest":
            request.earliest = True
        elif to == "latest":
            request.latest = True
        else:
            raise InvalidArgument(f'to is "earliest", "latest", an offset or a time, not {to!r}', field="to")
        calls = CoordinatorCalls(self._router, group)
        answer = await calls.call(lambda node: node.groups.ResetOffsets, request, timeout_ms=timeout_ms)
        return tuple(
            OffsetReset(one.partition, one.before if one.HasField("before") else None, one.after)
            for one in answer.offsets
        )

    async def delete(self, group: str, *, timeout_ms: int = TIMEOUT_MS) -> None:
        """Forget a group without members, and its offsets. Raises GroupNotEmpty, UnknownGroup."""
        request = groups_pb2.DeleteConsumerGroupRequest(group=group)
        calls = CoordinatorCalls(self._router, group)
        await calls.call(lambda node: node.groups.DeleteConsumerGroup, request, timeout_ms=timeout_ms)

    async def delete_offsets(
        self, group: str, topic: str, partitions: Sequence[int] = (), *, timeout_ms: int = TIMEOUT_MS
    ) -> None:
        """Forget committed offsets of a group without members. `partitions` empty: all. Raises GroupNotEmpty."""
        request = groups_pb2.DeleteOffsetsRequest(
            group=group, topic=groups_pb2.TopicPartitions(topic=topic, partitions=partitions)
        )
        calls = CoordinatorCalls(self._router, group)
        await calls.call(lambda node: node.groups.DeleteOffsets, request, timeout_ms=timeout_ms)


def _described(answer: groups_pb2.DescribeConsumerGroupResponse) -> GroupDescription:
    names = {number: name for name, number in _ASSIGNORS.items()}
    members = tuple(
        GroupMemberDescription(
            one.member_id,
            one.instance_id,
            one.client_id,
            one.rack,
            tuple(one.topics),
            _pairs(one.assigned),
            _pairs(one.revoking),
            one.session_timeout.ToMilliseconds(),
            one.last_heard.ToMilliseconds(),
        )
        for one in answer.members
    )
    partitions = tuple(
        GroupPartitionDescription(
            one.topic,
            one.partition,
            one.committed_offset if one.HasField("committed_offset") else None,
            one.metadata,
            one.committed_at.ToMilliseconds() if one.HasField("committed_at") else None,
            one.member_id,
            one.high_watermark if one.HasField("high_watermark") else None,
            one.lag if one.HasField("lag") else None,
            one.lag_time.ToMilliseconds() if one.HasField("lag_time") else None,
        )
        for one in answer.partitions
    )
    coordinator = answer.header.leader_node_id or None
    assignor = names.get(answer.assignor, str(answer.assignor))
    return GroupDescription(answer.group, answer.group_epoch, assignor, members, partitions, coordinator)


def _pairs(topics: Sequence[groups_pb2.TopicPartitions]) -> tuple[Partition, ...]:
    return tuple((one.topic, number) for one in topics for number in one.partitions)
