"""Calls that several leaders have to answer: whoever leads one of the partitions is asked, each once at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Generic, Protocol, TypeVar

from raftmq.broker.deadlines import CallContext
from raftmq.broker.forwarding import Forwarder
from raftmq.broker.patience import Patience
from raftmq.broker.routing import Forward, Local, Refuse, Wait, may_route_again, route
from raftmq.broker.view import View
from raftmq.errors import InvalidArgument, Outcome, RaftmqError
from raftmq.ids import NodeId
from raftmq.metadata.image import PartitionRecord, TopicRecord

LIMIT_MS = 10_000
PARTITIONS_MAX = 10_000
"""In one request, repeated ones too."""


class OfPartition(Protocol):
    """What is told of one partition."""

    @property
    def partition(self) -> int: ...


Told = TypeVar("Told", bound=OfPartition)


@dataclass(frozen=True, slots=True)
class Question(Generic[Told]):
    """What is asked, of a partition that this node leads and of partitions that another one leads.

    ``elsewhere`` hands the method on, for these partitions, by ``Leaders.hand_on``. Both raise RaftmqError, and change
    nothing.
    """

    here: Callable[[PartitionRecord, CallContext], Awaitable[Told]]
    elsewhere: Callable[[NodeId, list[PartitionRecord], CallContext], Awaitable[Sequence[Told]]]


class Leaders:
    """Asks them. A leader that cannot answer is looked for and asked again; the others are not."""

    def __init__(self, view: View, forwarder: Forwarder, rng: Random) -> None:
        self._view = view
        self._forwarder = forwarder
        self._rng = rng

    def wanted(self, numbers: Sequence[int], topic: TopicRecord) -> list[PartitionRecord]:
        """The partitions that the field ``partitions`` of a request names; none: all. Raises RaftmqError."""
        if not numbers:
            return list(topic.partitions)
        if len(numbers) > PARTITIONS_MAX:
            raise InvalidArgument(f"{len(numbers)} of them, at most {PARTITIONS_MAX}", field="partitions")
        return [
            self._view.partition(topic, number, f"partitions[{position}]") for position, number in enumerate(numbers)
        ]

    async def ask(
        self, question: Question[Told], wanted: list[PartitionRecord], context: CallContext
    ) -> dict[int, Told]:
        """What is told of each of the partitions `wanted`. Raises RaftmqError where one stays without an answer."""
        patience = Patience(context, self._rng)
        found: dict[int, Told] = {}
        while missing := [partition for partition in wanted if partition.partition not in found]:
            error = await self._round(question, missing, context, found)
            if error is not None:
                if context.forwarded or not may_route_again(error, reads=True):
                    raise error
                await patience.wait_after(error)
        return found

    async def hand_on(self, node: NodeId, method: str, request: bytes, context: CallContext) -> bytes:
        """Another node's answer. Raises RaftmqError."""
        try:
            return await self._forwarder(node, method, request, context.within(LIMIT_MS))
        except RaftmqError as error:
            error.outcome = Outcome.NOT_APPLIED
            raise

    async def _round(
        self, question: Question[Told], missing: list[PartitionRecord], context: CallContext, found: dict[int, Told]
    ) -> RaftmqError | None:
        """Ask everybody once. Adds to `found` what came, and returns one of the errors that came, if any did."""
        here, elsewhere, failure = self._deal(missing, context)
        asked = [_one(question.here(partition, context)) for partition in here]
        asked += [_several(question.elsewhere(node, ones, context)) for node, ones in elsewhere.items()]
        for answer in await asyncio.gather(*asked):
            if isinstance(answer, RaftmqError):
                # An error that no second attempt can change must not hide behind one that may pass.
                if failure is None or may_route_again(failure, reads=True):
                    failure = answer
            else:
                found.update((one.partition, one) for one in answer)
        return failure

    def _deal(
        self, missing: list[PartitionRecord], context: CallContext
    ) -> tuple[list[PartitionRecord], dict[NodeId, list[PartitionRecord]], RaftmqError | None]:
        """Who is asked for what, and why somebody cannot be."""
        here: dict[int, PartitionRecord] = {}
        elsewhere: dict[NodeId, list[PartitionRecord]] = {}
        failure: RaftmqError | None = None
        host = self._view.host
        for one in missing:
            decision = route(
                self._view.cluster.node_id,
                leads=host.leads(one.group),
                leader=host.leader_of(one.group),
                no_forward=False,
                forwarded=context.forwarded,
            )
            match decision:
                case Local():
                    here[one.partition] = one
                case Forward(node):
                    elsewhere.setdefault(node, []).append(one)
                case Wait(error) | Refuse(error):
                    failure = error
        return list(here.values()), elsewhere, failure


async def _one(answer: Awaitable[Told]) -> Sequence[Told] | RaftmqError:
    try:
        return [await answer]
    except RaftmqError as error:
        return error


async def _several(answer: Awaitable[Sequence[Told]]) -> Sequence[Told] | RaftmqError:
    try:
        return await answer
    except RaftmqError as error:
        return error
