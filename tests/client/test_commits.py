"""What a member may believe of its commits: of one whose answer was lost, and of one that had to wait."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from raftmq import status
from raftmq.client.commits import Commits, commit_outside
from raftmq.client.coordinator import CoordinatorCalls
from raftmq.client.membership import Membership
from raftmq.client.retry import RetryPolicy
from raftmq.client.router import Router
from raftmq.errors import (
    GroupNotEmpty,
    InvalidArgument,
    NoLeader,
    Outcome,
    RaftmqError,
    StaleMember,
    Unavailable,
    UnknownMember,
)
from raftmq.v1 import groups_pb2

LOST = Unavailable("the connection broke", outcome=Outcome.UNKNOWN)
KEY = ("orders", 0)


class ScriptedCalls(CoordinatorCalls):
    """Answers one attempt after the other; the last answer is given again. An event among them is waited for first."""

    def __init__(self, *answers: Any) -> None:
        super().__init__(cast(Router, SimpleNamespace(policy=RetryPolicy(initial_ms=1, max_ms=1))), "billing")
        self.asked: list[Any] = []
        self.is_asked = asyncio.Event()
        self._answers = list(answers)

    async def once(self, select: Any, request: Any, *, timeout_ms: int) -> Any:
        self.asked.append(request)
        self.is_asked.set()
        while isinstance(self._answers[0], asyncio.Event):
            await self._answers.pop(0).wait()
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, RaftmqError):
            raise answer
        return answer


def member(name: str = "a", epoch: int = 1) -> Any:
    return SimpleNamespace(member_id=name, epoch=epoch, refused=lambda _member_id: None)


def refusal() -> groups_pb2.CommitOffsetsResponse:
    error = status.to_message(StaleMember("another one reads it"))
    return groups_pb2.CommitOffsetsResponse(
        refused=[groups_pb2.RefusedOffset(topic="orders", partition=0, error=error)]
    )


async def commit(*answers: Any, timeout_ms: int = 60_000) -> dict[Any, RaftmqError]:
    return await Commits(ScriptedCalls(*answers), cast(Membership, member()), timeout_ms).commit({KEY: 7})


async def test_a_commit_that_is_refused_at_once_surely_does_not_count() -> None:
    with pytest.raises(UnknownMember) as caught:
        await commit(NoLeader("nobody leads"), UnknownMember("its session expired"))
    assert caught.value.outcome is Outcome.NOT_APPLIED
    assert (await commit(refusal()))[KEY].outcome is Outcome.NOT_APPLIED


async def test_nobody_knows_of_a_commit_that_is_refused_only_when_it_is_repeated() -> None:
    """The first attempt may have counted, and the member have been taken for dead since."""
    with pytest.raises(UnknownMember) as caught:
        await commit(LOST, UnknownMember("its session expired"))
    assert caught.value.outcome is Outcome.UNKNOWN
    assert (await commit(LOST, refusal()))[KEY].outcome is Outcome.UNKNOWN


async def test_the_last_error_does_not_hide_that_an_attempt_before_may_have_counted() -> None:
    with pytest.raises(RaftmqError) as caught:
        await commit(LOST, NoLeader("nobody leads"), timeout_ms=50)
    assert caught.value.outcome is Outcome.UNKNOWN


async def test_a_commit_that_waits_is_of_the_member_that_asked_for_it() -> None:
    """Whoever is taken for dead meanwhile, and joins under another id, has not read anything yet under that one."""
    answered = asyncio.Event()
    calls = ScriptedCalls(answered, groups_pb2.CommitOffsetsResponse())
    itself = member("before", 1)
    commits = Commits(calls, cast(Membership, itself), 60_000)
    first, second = (asyncio.create_task(commits.commit({KEY: offset})) for offset in (7, 8))
    await calls.is_asked.wait()
    itself.member_id, itself.epoch = "after", 2
    answered.set()
    await asyncio.gather(first, second)
    assert [(one.member_id, one.member_epoch) for one in calls.asked] == [("before", 1)] * 2


def sent(calls: ScriptedCalls) -> list[list[tuple[int, int, str]]]:
    """Of each request: partition, offset and metadata."""
    return [[(one.partition, one.offset, one.metadata) for one in request.offsets] for request in calls.asked]


async def test_metadata_goes_beside_offsets_and_is_news_by_itself() -> None:
    calls = ScriptedCalls(groups_pb2.CommitOffsetsResponse())
    commits = Commits(calls, cast(Membership, member()), 60_000)
    both = {("orders", 0): 7, ("orders", 1): 3}
    await commits.commit(both, "of both")
    await commits.commit(both)  # nothing is new
    await commits.commit(both, {("orders", 1): "of one", ("orders", 9): "not read here any more"})
    await commits.commit({**both, ("orders", 0): 8})
    await commits.commit({("orders", 0): 5}, "of what is behind")  # would be refused, and is known to be
    assert sent(calls) == [[(0, 7, "of both"), (1, 3, "of both")], [(1, 3, "of one")], [(0, 8, "")]]


async def test_a_program_that_is_no_member_commits_by_no_name() -> None:
    calls = ScriptedCalls(groups_pb2.CommitOffsetsResponse())
    offsets = {("orders", 1): 3, ("orders", 0): 7}
    assert await commit_outside(calls, offsets, {("orders", 1): "nightly"}, 60_000) == {}
    assert sent(calls) == [[(0, 7, ""), (1, 3, "nightly")]]
    assert [(one.group, one.member_id, one.member_epoch) for one in calls.asked] == [("billing", "", 0)]


@pytest.mark.parametrize(
    ("offsets", "metadata", "field"),
    [
        ({KEY: -1}, "", "offsets"),
        ({("orders", -1): 1}, "", "offsets"),
        ({KEY: "7"}, "", "offsets"),
        ({KEY: 7}, {("orders", 1): "of another"}, "metadata"),
    ],
)
async def test_what_is_no_offset_is_not_sent(offsets: Any, metadata: Any, field: str) -> None:
    calls = ScriptedCalls(groups_pb2.CommitOffsetsResponse())
    with pytest.raises(InvalidArgument) as caught:
        await commit_outside(calls, offsets, metadata, 60_000)
    assert (caught.value.field, caught.value.outcome) == (field, Outcome.NOT_APPLIED)
    assert not calls.asked


async def test_nobody_knows_of_a_commit_from_outside_whose_repetition_is_refused() -> None:
    """Others may have become members, or have committed more, between the two."""
    for refused in (GroupNotEmpty("it has members"), NoLeader("nobody leads")):
        with pytest.raises(RaftmqError) as caught:
            await commit_outside(ScriptedCalls(LOST, refused), {KEY: 7}, "", 50)
        assert caught.value.outcome is Outcome.UNKNOWN
    with pytest.raises(GroupNotEmpty) as caught:
        await commit_outside(ScriptedCalls(GroupNotEmpty("it has members")), {KEY: 7}, "", 60_000)
    assert caught.value.outcome is Outcome.NOT_APPLIED
    assert (await commit_outside(ScriptedCalls(LOST, refusal()), {KEY: 7}, "", 60_000))[KEY].outcome is Outcome.UNKNOWN
