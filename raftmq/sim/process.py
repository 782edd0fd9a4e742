"""Virtual time, and the processes that live in it.

Agenda       everything that will happen, by (time, order of scheduling); time jumps from one thing to the next
SimClock     one machine's monotonic and wall clock: its rate may differ, its wall clock may jump
Process      an event loop that gets the processor now and then: it can be stopped, and killed
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from heapq import heappop, heappush
from random import Random
from typing import Any, TypeVar

from raftmq.ids import Tick
from raftmq.sim.loop import SimLoop

T = TypeVar("T")

WALL_START_MS = 1_700_000_000_000
TURN_MICROS = (20, 250)
"""From an input to the turn of the loop that takes it: what arrives meanwhile is taken in the same turn."""


def between(rng: Random, bounds: tuple[int, int]) -> int:
    """One of the numbers from the first to the last; much faster than ``randint``, and drawn for every message."""
    first, last = bounds
    return first + int(rng.random() * (last - first + 1))


class Agenda:
    """The one queue of the simulation. Times are microseconds of virtual time."""

    def __init__(self) -> None:
        self.now = 0
        self._heap: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._count = 0

    def after(self, delay: int, call: Callable[..., None], *args: Any) -> None:
        self._count += 1
        heappush(self._heap, (self.now + delay, self._count, call, args))

    def step(self) -> bool:
        """Let the next thing happen. False when there is none."""
        if not self._heap:
            return False
        self.now, _, call, args = heappop(self._heap)
        call(*args)
        return True

    def next_time(self) -> int | None:
        return self._heap[0][0] if self._heap else None


class SimClock:
    """``ports.Clock`` of one machine. It goes on while a process is stopped or dead, like the real ones."""

    def __init__(self, agenda: Agenda, offset_micros: int) -> None:
        self._agenda = agenda
        self._began = agenda.now
        self._base = offset_micros
        self._rate = 1000
        self._wall_ms = WALL_START_MS - offset_micros // 1000

    def micros(self) -> int:
        """Monotonic."""
        return self._base + (self._agenda.now - self._began) * self._rate // 1000

    def until(self, micros: int) -> int:
        """Microseconds of virtual time until this clock shows `micros`."""
        return max(0, -((self.micros() - micros) * 1000 // self._rate))

    def set_rate(self, per_mille: int) -> None:
        """How fast this clock runs, in thousandths of the others."""
        self._base, self._began = self.micros(), self._agenda.now
        self._rate = per_mille

    def jump(self, micros: int) -> None:
        """Time has passed for this machine that did not pass for others."""
        self._base += micros

    def jump_wall(self, delta_ms: int) -> None:
        """Somebody, or a time server, sets the wall clock."""
        self._wall_ms += delta_ms

    def tick(self) -> Tick:
        return Tick(self.micros() // 1000)

    def wall_ms(self) -> int:
        return self._wall_ms + self.micros() // 1000


class Process:
    """``after_turn`` is called when the loop has run: the moment to look at what it did."""

    def __init__(self, agenda: Agenda, name: str, clock: SimClock, rng: Random) -> None:
        self.agenda = agenda
        self.name = name
        self.clock = clock
        self.rng = rng
        self.is_alive = True
        self.is_paused = False
        self.loop = SimLoop(name, clock.micros, self._due)  # type: ignore[abstract]  # it has no sockets
        self._turn_due = False
        self._timer_at: int | None = None
        self._later: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []

    # -- life --------------------------------------------------------------------------------------------------------

    def kill(self) -> None:
        """SIGKILL: nothing of it happens any more."""
        self.is_alive = False

    def pause(self) -> None:
        """SIGSTOP: what arrives waits, timers become late."""
        self.is_paused = True

    def resume(self) -> None:
        """SIGCONT."""
        self.is_paused = False
        waiting, self._later = self._later, []
        for call, args in waiting:
            call(*args)
        self._due()

    def post(self, call: Callable[..., Any], *args: Any) -> None:
        """Something reached this process from outside: from the network, or from a thread of its own."""
        if self.is_alive:
            self.loop.call_soon(call, *args)

    def start_task(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start a coroutine on its loop, from outside."""
        return self.loop.create_task(work)  # which schedules its first step, and so asks for a turn

    def on_thread(self, call: Callable[..., Any], *args: Any) -> None:
        """Run `call` as one of its other threads would: not while it is stopped."""
        if not self.is_alive:
            return
        if self.is_paused:
            self._later.append((call, args))
        else:
            call(*args)

    def after_turn(self) -> None:
        """The loop has run. The default does nothing."""

    # -- the processor -----------------------------------------------------------------------------------------------

    def _due(self) -> None:
        if not self._turn_due and self.is_alive and not self.is_paused:
            self._turn_due = True
            self.agenda.after(between(self.rng, TURN_MICROS), self._turn)

    def _turn(self) -> None:
        self._turn_due = False
        self._run()

    def _timer(self, at: int) -> None:
        if self._timer_at == at:
            self._timer_at = None
            self._run()

    def _run(self) -> None:
        if not self.is_alive or self.is_paused:
            return
        self.loop.run()
        self.after_turn()
        self.rearm()

    def rearm(self) -> None:
        """See to it that the loop runs when its next timer is due. Needed after a change of the clock's rate."""
        due = self.loop.next_timer()
        if due is None or not self.is_alive:
            return
        # A turn takes time: who asks for a timer in less than a clock can tell must not get one in no time.
        delay = self.clock.until(due) or 1
        at = self.agenda.now + delay
        if self._timer_at is None or at < self._timer_at:
            self._timer_at = at
            self.agenda.after(delay, self._timer, at)
