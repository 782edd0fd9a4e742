"""Numbers of a run that are no verdict, and how they are measured."""

from __future__ import annotations

import asyncio
import os
from typing import Any, cast

from raftmq.chaos import figure, strain
from raftmq.chaos.nodes import Processes
from raftmq.chaos.reading import of
from raftmq.chaos.recorder import Recorder
from raftmq.ids import NodeId
from tests.chaos.events import Events, fault, history, machine, poll, resources, send

SECOND = 1_000_000


def acknowledged(begin_s: float, count: int, took_ms: int, first_op: int) -> Events:
    """Acknowledgements, ten milliseconds apart."""
    rows = (
        send(first_op + i, first_op + i, t=at - took_ms * 1000, until=at, offset=first_op + i)
        for i in range(count)
        for at in (round(begin_s * SECOND) + i * 10_000,)
    )
    return [event for row in rows for event in row]


def test_latency_is_told_to_be_back_when_it_is() -> None:
    events = of(
        history(
            acknowledged(4, 100, 30, 1),
            fault(6 * SECOND, 8 * SECOND),
            acknowledged(9, 300, 900, 1001),
            acknowledged(14, 400, 50, 2001),
        )
    )
    told = figure.latencies(events)
    assert (told["p99_before_ms"], told["p99_at_the_end_ms"]) == (30.0, 50.0)
    # 900 ms is too slow, 50 ms is not: from a window in which there are none of the slow ones any more.
    assert told["p99_back_after_s"] == 4.5


def test_latency_that_does_not_come_back_is_told_as_such() -> None:
    events = of(history(acknowledged(4, 100, 30, 1), fault(6 * SECOND, 8 * SECOND), acknowledged(9, 300, 900, 1001)))
    assert figure.latencies(events)["p99_back_after_s"] is None


def test_what_happened_in_faults_counts_once_where_they_overlap() -> None:
    later = [event | {"fault": 1} for event in fault(15, 40)]
    events = of(
        history(fault(10, 20), later, *(send(i, i, t=i, until=50, offset=i) for i in range(5, 45)), poll(0, 1, t=30))
    )
    assert figure.sent_in_faults(events) == 30
    assert figure.polled_in_faults(events) == 1


def test_resources_are_told_before_and_after() -> None:
    events = of(history(resources(1, 5), resources(1, 900, threads=24, memory=200 << 20)))
    assert figure.resources(events) == {"1": [[20, 50, 85], [24, 50, 200]]}


def test_strain_adds_up_between_two_moments() -> None:
    events = of(history(machine(2 * SECOND, lag=300_000, waited=100_000), machine(9 * SECOND, lag=0, waited=500_000)))
    assert events.stalled_s(0, 10 * SECOND) == 0.8
    assert events.stalled_s(0, 5 * SECOND) == 0.3


class Ourselves:
    """This process as a node."""

    nodes = (NodeId(1),)

    def pid(self, node: NodeId) -> int:
        return os.getpid()


class Written:
    """A recorder that keeps what it is given."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        self.any = asyncio.Event()

    def write(self, f: str, **fields: Any) -> None:
        self.lines.append({"t": 1, "f": f, **fields})
        self.any.set()


async def test_this_process_is_measured() -> None:
    written = Written()
    strain.write_resources(cast(Processes, Ourselves()), cast(Recorder, written))
    (held,) = of(written.lines).resources
    assert held.threads >= 1
    assert held.files >= 3
    assert held.memory_bytes > 1 << 20


async def test_strain_is_written_once_a_second() -> None:
    written = Written()
    watching = asyncio.create_task(strain.watch(cast(Processes, Ourselves()), cast(Recorder, written)))
    async with asyncio.timeout(60):
        await written.any.wait()
    watching.cancel()
    assert set(written.lines[0]["waited"]) == {str(os.getpid())}
    assert of(written.lines).strain[0].lag >= 0
