"""An event loop under virtual time, one per simulated process.

It has no selector and no threads, and it never runs by itself: the world calls ``run`` when the process gets the
processor. A stopped process is a loop that is not run; a killed one is a loop that is never run again, so that nothing
of it, not even a ``finally``, happens any more. Deterministic: callbacks run in the order in which they became ready,
timers in the order of (time, creation).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context
from heapq import heappop, heappush
from itertools import count
from math import ceil
from typing import Any, TypeVar

T = TypeVar("T")

CALLBACKS_MAX = 100_000
"""In one turn. A process that does more than this without waiting spins."""


class Handle:
    """What ``asyncio`` needs of a scheduled callback: it can be cancelled."""

    __slots__ = ("_args", "_callback", "_context", "_is_cancelled", "_when")

    def __init__(self, callback: Callable[..., object], args: tuple[Any, ...], context: Context | None, when: float):
        self._callback = callback
        self._args = args
        self._context = context
        self._when = when
        self._is_cancelled = False

    def cancel(self) -> None:
        self._is_cancelled = True

    def cancelled(self) -> bool:
        return self._is_cancelled

    def when(self) -> float:
        return self._when


class SimLoop(asyncio.AbstractEventLoop):
    """See the module docstring. ``micros``: the process's own monotonic time, in microseconds.

    ``due`` is called when callbacks have become ready while the loop was not running: it wants to be run.
    """

    def __init__(self, name: str, micros: Callable[[], int], due: Callable[[], None]) -> None:
        self.name = name
        self.failures: list[BaseException] = []
        """What callbacks raised. In production it would be a line in a log; here it is a bug."""
        self._micros = micros
        self._due = due
        self._ready: deque[Handle] = deque()
        self._timers: list[tuple[int, int, Handle]] = []
        self._numbers = count()
        self._is_running = False
        self.timers_run = 0

    # -- the world's side --------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Run everything that is ready, and what becomes ready by it, until nothing is."""
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        self._is_running = True
        try:
            self._run_ready()
        finally:
            self._is_running = False
            asyncio._set_running_loop(before)

    def _run_ready(self) -> None:
        now, timers, ready = self._micros(), self._timers, self._ready
        while timers and timers[0][0] <= now:
            handle = heappop(timers)[2]
            if not handle._is_cancelled:
                self.timers_run += 1
                ready.append(handle)
        left = CALLBACKS_MAX
        while ready:
            handle = ready.popleft()
            if handle._is_cancelled:
                continue
            left -= 1
            assert left, f"{self.name} spins: {handle._callback}"
            try:
                if handle._context is None:
                    handle._callback(*handle._args)
                else:
                    handle._context.run(handle._callback, *handle._args)
            except Exception as error:  # noqa: BLE001  whatever a callback raises is the finding
                self.failures.append(error)

    def close(self) -> None:
        """End what is left, after the run: coroutines that are only dropped complain when they are collected."""
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            for _ in range(10):
                tasks = asyncio.all_tasks(self)
                if not tasks:
                    break
                for task in tasks:
                    task.cancel()
                self._run_ready()
        finally:
            asyncio._set_running_loop(before)
            self._ready.clear()
            self._timers.clear()

    def next_timer(self) -> int | None:
        """When the earliest timer is due, by the process's own clock."""
        timers = self._timers
        while timers:
            due, _, handle = timers[0]
            if not handle._is_cancelled:
                return due
            heappop(timers)
        return None

    # -- asyncio's side ----------------------------------------------------------------------------------------------

    def time(self) -> float:
        return self._micros() / 1_000_000

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        handle = Handle(callback, args, context, 0.0)
        self._ready.append(handle)
        if not self._is_running:
            self._due()
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        return self.call_at(self._micros() / 1_000_000 + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> Handle:
        handle = Handle(callback, args, context, when)
        # Never early: who waits until a moment must find that it has come.
        heappush(self._timers, (ceil(when * 1_000_000), next(self._numbers), handle))
        if not self._is_running:
            self._due()
        return handle

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[T]:
        return asyncio.Task(coro, loop=self, name=name or "task", context=context)

    def run_in_executor(self, executor: object, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """Simulated threads have done their work in no time; the loop hears of it in its next turn."""
        answer: asyncio.Future[T] = self.create_future()

        def work() -> None:
            if answer.done():
                return
            try:
                answer.set_result(func(*args))
            except Exception as error:  # noqa: BLE001  handed to whoever awaits
                answer.set_exception(error)

        self.call_soon(work)
        return answer

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self._is_running

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Told by destructors only, at a moment that the garbage collector chooses: nothing may depend on it."""

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """See ``call_exception_handler``."""

    def _timer_handle_cancelled(self, handle: object) -> None:
        """Called by asyncio's own handles; ours are dropped when their time comes."""
