"""Calls through the simulated network: one request, one answer, either of which may be lost."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from raftmq import status
from raftmq.errors import Outcome, RaftmqError, Unavailable
from raftmq.ids import NodeId
from raftmq.sim.loop import Handle
from raftmq.sim.process import Process
from raftmq.sim.weather import Cut

if TYPE_CHECKING:
    import asyncio

    from raftmq.sim.network import Network
    from raftmq.sim.node import NodeProcess

CONNECT_MICROS = 1_000_000
"""How long a connection attempt waits for an answer."""


class Call:
    """One request on its way to a node, and back."""

    def __init__(
        self,
        network: Network,
        source: Process,
        number: int,
        node: NodeId,
        serve: Callable[[NodeProcess], Awaitable[bytes]],
        timeout_s: float,
    ) -> None:
        self._network = network
        self._agenda = network._agenda
        self._rng = network._rng
        self._source = source
        self._link = (number, int(node))
        self._node = node
        self._serve = serve
        self._timeout_s = timeout_s
        self._answer: asyncio.Future[bytes] = source.loop.create_future()
        self._task: asyncio.Task[None] | None = None
        self._target: NodeProcess | None = None
        self._patience: Handle | None = None
        """Of the target: the request names its deadline."""

    async def run(self) -> bytes:
        loop = self._source.loop
        timer = loop.call_later(self._timeout_s, self._fail, status.decode("DEADLINE_EXCEEDED", "no answer", ()))
        cut = self._network.is_cut(*self._link)
        if cut in (Cut.DROP, Cut.HOLD) and self._rng.random() < 0.5:
            # The connection is known to be dead already.
            self._later(min(CONNECT_MICROS, int(self._timeout_s * 900_000)), self._fail, _unconnected(self._node))
        elif not self._is_lost() and cut not in (Cut.DROP, Cut.HOLD):
            self._agenda.after(self._network.delay(), self._arrive)
        else:
            self.lost()
        try:
            return await self._answer
        finally:
            timer.cancel()
            self._network.unanswered.pop(self, None)
            if self._task is not None and not self._task.done():
                # The stream is reset, and the other side's handler cancelled.
                self._agenda.after(self._network.delay(), self._cancel)

    def _later(self, delay: int, call: Callable[..., None], error: RaftmqError) -> None:
        self._agenda.after(delay, self._source.post, call, error)

    def _is_lost(self) -> bool:
        return self._rng.random() < self._network.weather.call_loss

    def lost(self) -> None:
        """No answer will come, and nobody says so until everything is mended."""
        if not self._answer.done():
            self._network.unanswered[self] = None

    def _fail(self, error: RaftmqError) -> None:
        if not self._answer.done():
            self._answer.set_exception(error)

    def _arrive(self) -> None:
        cut = self._network.is_cut(*self._link)
        process = self._network.find(self._node)
        if cut in (Cut.DROP, Cut.HOLD):
            self.lost()
            return
        if cut is Cut.REFUSE or process is None:
            self._later(self._network.delay(), self._fail, _unconnected(self._node))
            return
        self._network.delivered += 1
        self._target = process
        process.calls[self] = None
        process.post(self._start)

    def _start(self) -> None:
        assert self._target is not None
        self._task = self._target.loop.create_task(self._work(self._target))
        self._patience = self._target.loop.call_later(self._timeout_s, self._cancel)

    def _cancel(self) -> None:
        if self._target is not None and self._task is not None and self._target.is_alive:
            self._target.loop.call_soon(self._task.cancel)

    async def _work(self, target: NodeProcess) -> None:
        try:
            data = await self._serve(target)
        except RaftmqError as error:
            self._network.refusals[error.reason] += 1
            wire = status.encode(error)
            self._reply(self._fail, status.decode(wire.code, wire.message, wire.trailers))
        except Exception as bug:  # noqa: BLE001  an unhandled error in a call is a finding
            target.loop.failures.append(bug)
        else:
            self._reply(self._succeed, data)
        finally:
            target.calls.pop(self, None)
            if self._patience is not None:
                self._patience.cancel()

    def _reply(self, call: Callable[..., None], result: bytes | RaftmqError) -> None:
        if self._is_lost():
            self.lost()
        else:
            self._agenda.after(self._network.delay(), self._returned, call, result)

    def _returned(self, call: Callable[..., None], result: bytes | RaftmqError) -> None:
        if self._network.is_cut(*self._link) is None:
            self._network.delivered += 1
            self._source.post(call, result)
        else:
            self.lost()

    def _succeed(self, data: bytes) -> None:
        if not self._answer.done():
            self._answer.set_result(data)

    def broken(self) -> None:
        """The process that works on it has died."""
        if self._network.is_cut(*self._link) is None:
            self._later(self._network.delay(), self._fail, status.decode("UNAVAILABLE", "the connection was reset", ()))
        else:
            self.lost()


def _unconnected(node: NodeId) -> RaftmqError:
    return Unavailable(f"no connection to node {node}", outcome=Outcome.NOT_APPLIED)
