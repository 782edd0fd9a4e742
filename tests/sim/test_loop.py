"""The simulated event loop, and processes on it: order, time, stops and deaths."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from raftmq.sim.process import Agenda, Process, SimClock


def process(agenda: Agenda, name: str = "p") -> Process:
    return Process(agenda, name, SimClock(agenda, 5_000_000), Random(1))


def run(agenda: Agenda, until_s: float = 100.0) -> None:
    while (following := agenda.next_time()) is not None and following <= until_s * 1_000_000:
        agenda.step()


def test_time_passes_only_by_timers() -> None:
    agenda = Agenda()
    one = process(agenda)

    async def sleeper() -> float:
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(3600)
        return asyncio.get_running_loop().time() - began

    task = one.start_task(sleeper())
    run(agenda, 4000)
    assert task.result() == pytest.approx(3600, abs=0.01)


def test_timers_run_in_order_of_time_and_then_of_creation() -> None:
    agenda = Agenda()
    one = process(agenda)
    order: list[int] = []
    for number, delay in enumerate((0.2, 0.1, 0.2, 0.1)):
        one.loop.call_later(delay, order.append, number)
    run(agenda)
    assert order == [1, 3, 0, 2]


def test_timeouts_locks_and_gathers_work() -> None:
    agenda = Agenda()
    one = process(agenda)

    async def late() -> None:
        async with asyncio.timeout(0.5):
            await asyncio.sleep(1)

    async def all_of_it() -> list[str]:
        lock = asyncio.Lock()
        told: list[str] = []

        async def worker(name: str) -> None:
            async with lock:
                await asyncio.sleep(0.1)
                told.append(name)

        await asyncio.gather(worker("a"), worker("b"), worker("c"))
        with pytest.raises(TimeoutError):
            await late()
        told.append(await asyncio.to_thread(lambda: "thread"))
        return told

    task = one.start_task(all_of_it())
    run(agenda)
    assert task.result() == ["a", "b", "c", "thread"]


def test_a_stopped_process_is_late_and_a_killed_one_never_ends_anything() -> None:
    agenda = Agenda()
    stopped, killed = process(agenda), process(agenda)
    happened: list[str] = []

    async def work(name: str) -> None:
        try:
            await asyncio.sleep(1)
            happened.append(name)
        finally:
            happened.append(f"{name} ends")

    tasks = [one.start_task(work(name)) for name, one in (("stopped", stopped), ("killed", killed))]
    agenda.after(500_000, stopped.pause)
    agenda.after(500_000, killed.kill)
    agenda.after(9_000_000, stopped.resume)
    run(agenda, 8)
    assert happened == []
    run(agenda)
    assert happened == ["stopped", "stopped ends"]
    assert not tasks[1].done()
    killed.loop.close()


def test_a_clock_may_run_at_another_rate_and_timers_follow_it() -> None:
    agenda = Agenda()
    slow = process(agenda)
    slow.clock.set_rate(500)
    fired: list[int] = []
    slow.loop.call_later(1.0, lambda: fired.append(agenda.now))
    slow.rearm()
    run(agenda)
    assert fired == [pytest.approx(2_000_000, abs=1_000)]


def test_a_wall_clock_jumps_and_the_monotonic_one_does_not() -> None:
    agenda = Agenda()
    clock = SimClock(agenda, 0)
    before = clock.wall_ms()
    clock.jump_wall(-3_600_000)
    assert clock.wall_ms() == before - 3_600_000
    assert clock.tick() == 0


def test_what_a_callback_raises_is_kept() -> None:
    agenda = Agenda()
    one = process(agenda)
    one.loop.call_soon(lambda: 1 // 0)
    run(agenda)
    assert [type(error) for error in one.loop.failures] == [ZeroDivisionError]


def test_a_wait_for_less_than_a_clock_can_tell_takes_time_all_the_same() -> None:
    agenda = Agenda()
    one = process(agenda)
    seen: list[int] = []

    def again() -> None:
        seen.append(agenda.now)
        if len(seen) < 10:
            one.loop.call_later(1e-17, again)

    one.loop.call_soon(again)
    run(agenda)
    assert len(set(seen)) == 10


def test_a_loop_that_spins_is_found() -> None:
    agenda = Agenda()
    one = process(agenda)

    def forever() -> None:
        one.loop.call_soon(forever)

    one.loop.call_soon(forever)
    with pytest.raises(AssertionError, match="spins"):
        run(agenda)
