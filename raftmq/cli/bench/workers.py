"""Loads in processes of their own: a client is bound by its CPU, and several must not share one interpreter.

main process            worker
Worker(load)  ───────>  connects, prepares
ready()       <───────  signals.started() says so, and waits
begin()       ───────>  ... runs ...
end(payload)  ───────>  signals.ending is set            (only loads without an end of their own)
outcome()     <───────  what ``load.run`` returned
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import traceback
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Generic, Protocol, TypeVar

import uvloop

from raftmq.cli.exits import CommandError

_CONTEXT = multiprocessing.get_context("spawn")  # a fork would take gRPC's threads' locks with it
_TERMINATE_SECONDS = 5.0

Outcome = TypeVar("Outcome", covariant=True)
OutcomeT = TypeVar("OutcomeT")


class Signals:
    """A load's side of its connection to the main process."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._begun = asyncio.Event()
        self.ending = asyncio.Event()
        self.payload: Any = None
        """What came with the word to end."""

    async def started(self) -> None:
        """Say that all is prepared, and return when all loads are to begin."""
        self._connection.send(_Ready())
        await self._begun.wait()

    def hear(self, load: asyncio.Task[Any]) -> None:
        try:
            word = self._connection.recv()
        except EOFError:  # the main process is gone, and nobody wants the rest
            asyncio.get_running_loop().remove_reader(self._connection.fileno())
            load.cancel()
            return
        if isinstance(word, _Begin):
            self._begun.set()
        else:
            self.payload = word.payload
            self.ending.set()


class Load(Protocol[Outcome]):
    """What a worker does. Itself and its outcome are pickled."""

    async def run(self, signals: Signals) -> Outcome: ...


@dataclass(frozen=True, slots=True)
class _Ready:
    pass


@dataclass(frozen=True, slots=True)
class _Begin:
    pass


@dataclass(frozen=True, slots=True)
class _End:
    payload: Any


@dataclass(frozen=True, slots=True)
class _Done:
    outcome: Any


@dataclass(frozen=True, slots=True)
class _Failed:
    text: str
    trace: str


class Worker(Generic[OutcomeT]):
    """One process that runs one load. Made by `working`."""

    def __init__(self, load: Load[OutcomeT]) -> None:
        self._connection, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=_main, args=(theirs, load), daemon=True)
        self._process.start()
        theirs.close()  # so that its death is the end of the connection

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    async def ready(self) -> None:
        """Returns when it waits for `begin`. Raises CommandError as `outcome`."""
        await self._hear(_Ready)

    def begin(self) -> None:
        self._connection.send(_Begin())

    def end(self, payload: object = None) -> None:
        """Tell a load that has no end of its own. Nothing happens if it has ended already."""
        try:
            self._connection.send(_End(payload))
        except OSError:
            return  # `outcome` tells how it ended

    async def outcome(self) -> OutcomeT:
        """Waits for its end. Raises CommandError if the load raised anything, or the process died."""
        outcome: OutcomeT = (await self._hear(_Done)).outcome
        return outcome

    def raise_if_dead(self) -> None:
        """Raises CommandError if the process ended before it was told to."""
        if not self._process.is_alive():
            raise CommandError(f"a load's process ended with status {self._process.exitcode}")

    async def close(self) -> None:
        """End the process, whatever it does."""
        self._connection.close()
        if self._process.is_alive():
            self._process.terminate()
        await asyncio.to_thread(self._process.join, _TERMINATE_SECONDS)
        if self._process.is_alive():
            self._process.kill()

    async def _hear(self, expected: type[Any]) -> Any:
        try:
            word = await asyncio.to_thread(self._connection.recv)
        except (EOFError, OSError):
            await asyncio.to_thread(self._process.join, _TERMINATE_SECONDS)
            raise CommandError(f"a load's process ended with status {self._process.exitcode}") from None
        if isinstance(word, _Failed):
            raise CommandError(f"a load failed: {word.text}", hint=word.trace)
        assert isinstance(word, expected), word
        return word


@asynccontextmanager
async def working(loads: Sequence[Load[OutcomeT]]) -> AsyncIterator[tuple[Worker[OutcomeT], ...]]:
    """One process for each load, all of them ready; they are gone when the block ends."""
    workers = tuple(Worker(load) for load in loads)
    try:
        for worker in workers:
            await worker.ready()
        yield workers
    finally:
        for worker in workers:
            await worker.close()


async def run_all(workers: Sequence[Worker[OutcomeT]]) -> list[OutcomeT]:
    """Begin all at once and wait for all."""
    for worker in workers:
        worker.begin()
    return [await worker.outcome() for worker in workers]


def _main(connection: Connection, load: Load[Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the main process's to handle
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            word: _Done | _Failed = _Done(runner.run(_run(connection, load)))
    except asyncio.CancelledError:
        return
    except Exception as error:  # noqa: BLE001  whatever it is, the main process has to be told
        word = _Failed(f"{type(error).__name__}: {error}", traceback.format_exc())
    os.set_blocking(connection.fileno(), True)  # the loop listened to it; an outcome may be more than the pipe holds
    connection.send(word)


async def _run(connection: Connection, load: Load[Any]) -> Any:
    signals = Signals(connection)
    task = asyncio.ensure_future(load.run(signals))
    loop = asyncio.get_running_loop()
    loop.add_reader(connection.fileno(), signals.hear, task)
    try:
        return await task
    finally:
        loop.remove_reader(connection.fileno())
