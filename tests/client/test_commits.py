"""What a member may believe of its commits: of one whose answer was lost, and of one that had to wait."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from raftmq import status
from raftmq.client.commits import Commits
from raftmq.client.coordinator import CoordinatorCalls
from raftmq.client.membership import Membership
from raftmq.client.retry import RetryPolicy
from raftmq.client.router import Router
from raftmq.errors import NoLeader, Outcome, RaftmqError, StaleMember, Unavailable, UnknownMember
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
