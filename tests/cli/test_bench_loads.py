"""The loads against a fake cluster: what they send, count and admit; and the processes that they run in."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from raftmq.cli.bench import consume, end_to_end, failover, idle, latency, produce, restart, soak
from raftmq.cli.bench.consuming import Consume
from raftmq.cli.bench.failover import Kill, Victim
from raftmq.cli.bench.figures import Sample, Spread
from raftmq.cli.bench.floor import Floors
from raftmq.cli.bench.latency import OneByOne
from raftmq.cli.bench.producing import Produce, Produced, Setting, together
from raftmq.cli.bench.stage import Stage, configuration, counted, free_ports, on_stage
from raftmq.cli.bench.usage import Usage
from raftmq.cli.bench.workers import Signals, Worker, run_all, working
from raftmq.cli.exits import CommandError
from raftmq.cli.runtime import DEFAULT_CONFIG, Target
from raftmq.client import Acks, convert
from raftmq.errors import InvalidArgument, Outcome, Unavailable
from tests.client.fake_broker import FakeCluster, Fault

NOTHING = Spread(0.001, 0.001, 0.001, 0.001)
FLOORS = Floors(NOTHING, 1000, 1000, 1000, NOTHING, NOTHING)


class AtOnce(Signals):
    """For a load in this process: it begins when it is ready, and ends when the test says."""

    def __init__(self) -> None:
        ours, _ = multiprocessing.Pipe()
        super().__init__(ours)

    async def started(self) -> None:
        return


@pytest.fixture
async def stage(cluster: FakeCluster) -> AsyncIterator[Stage]:
    async with on_stage(Target(cluster.addresses, DEFAULT_CONFIG), None) as stage:
        yield stage


def setting(**changes: Any) -> Setting:
    chosen = {
        "partitions": 2, "producers": 1, "size": 16, "batch": 10, "in_flight": 2, "acks": Acks.ALL, "seconds": None,
        "records": 95,
    }  # fmt: skip
    return Setting(**{**chosen, **changes})


def load(cluster: FakeCluster, **changes: Any) -> Produce:
    chosen: dict[str, Any] = {
        "partitions": (0, 1), "size": 16, "batch": 10, "in_flight": 2, "acks": Acks.ALL, "records": 95
    }  # fmt: skip
    return Produce(cluster.addresses, "orders", **{**chosen, **changes})


def there(cluster: FakeCluster) -> int:
    return sum(partition.end for partition in cluster.topics["orders"])


# -- producing ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [10, 0])
@pytest.mark.parametrize("acks", [Acks.ALL, Acks.LEADER])
async def test_a_number_of_records_is_sent_and_counted(cluster: FakeCluster, batch: int, acks: Acks) -> None:
    cluster.create("orders", partitions=2)
    produced = await load(cluster, batch=batch, acks=acks).run(AtOnce())
    assert (produced.acknowledged, there(cluster), produced.failures) == (95, 95, {})
    assert sum(sample.records for sample in produced.samples) == 95
    assert all(sample.at > produced.began for sample in produced.samples)
    assert {len(value or b"") for partition in cluster.topics["orders"] for value in partition.values()} == {16}


async def test_a_load_without_an_end_goes_on_until_it_is_told(cluster: FakeCluster) -> None:
    cluster.create("orders", partitions=2)
    signals = AtOnce()
    running = asyncio.ensure_future(load(cluster, records=None, pause_seconds=0.001).run(signals))
    await cluster.called("Produce", 5)
    assert not running.done()
    signals.ending.set()
    produced = await running
    assert produced.acknowledged == there(cluster) > 0


async def test_what_fails_is_admitted_by_reason_and_outcome(cluster: FakeCluster) -> None:
    cluster.create("orders", partitions=2)
    cluster.script("Produce", Fault(refuse=InvalidArgument("no", field="batch")))
    produced = await load(cluster).run(AtOnce())
    assert dict(produced.failures) == {"INVALID_ARGUMENT": 10}
    assert (produced.acknowledged, produced.unknown) == (85, 0)
    unclear = Produced()
    unclear.fail(Unavailable("gone", outcome=Outcome.UNKNOWN), 7)
    assert unclear.unknown == 7


def test_partitions_and_records_are_dealt_out_to_producers(cluster: FakeCluster) -> None:
    cluster.create("orders", partitions=3)
    topic = convert.topic(cluster.topic_info("orders"))
    loads = setting(producers=2, records=7).loads("here", topic)
    assert [(one.partitions, one.records) for one in loads] == [([0, 2], 4), ([1], 3)]
    crowd = setting(producers=5, records=None, seconds=1).loads("here", topic)
    assert [one.partitions for one in crowd] == [[0], [1], [2], [0], [1]]
    assert {one.seconds for one in crowd} == {1}


def test_producers_are_added_up_from_the_first_that_began() -> None:
    one = Produced(5, [Sample(0, 6, 1, 10)], 10, 0)
    two = Produced(4, [Sample(1, 7, 1, 20)], 20, 3)
    two.failures["X"] += 3
    both = together([one, two])
    assert (both.began, both.acknowledged, both.unknown, len(both.samples)) == (4, 30, 3, 2)
    assert dict(both.failures) == {"X": 3}


# -- consuming ---------------------------------------------------------------------------------------------------


async def test_a_backlog_is_read_to_its_end_with_the_time_since_it_was_sent(cluster: FakeCluster) -> None:
    cluster.create("orders", partitions=2)
    produced = await load(cluster).run(AtOnce())
    ends = {number: partition.end for number, partition in enumerate(cluster.topics["orders"])}
    consumed = await Consume(cluster.addresses, "orders", {0: 0, 1: 0}, ends).run(AtOnce())
    assert consumed.records == 95
    assert all(sample.latency > 0 for sample in consumed.samples)
    assert min(sample.latency for sample in consumed.samples) < consumed.samples[-1].at - produced.began


async def test_a_reader_goes_on_until_the_ends_it_is_told(cluster: FakeCluster) -> None:
    cluster.create("orders", partitions=2)
    await load(cluster).run(AtOnce())
    signals = AtOnce()
    reading = asyncio.ensure_future(Consume(cluster.addresses, "orders", {0: 5, 1: 0}).run(signals))
    await cluster.called("Fetch", 4)
    await load(cluster).run(AtOnce())
    signals.payload = {number: partition.end for number, partition in enumerate(cluster.topics["orders"])}
    signals.ending.set()
    assert (await reading).records == 185


async def test_one_by_one_has_a_latency_for_every_record(cluster: FakeCluster) -> None:
    cluster.create("orders", partitions=1)
    answered = await OneByOne(cluster.addresses, "orders", 10, Acks.ALL, 0.2).run(AtOnce())
    assert len(answered.samples) == len(answered.sync) == there(cluster) > 0


# -- benchmarks in processes of their own --------------------------------------------------------------------------


async def test_produce_counts_what_is_there_and_leaves_no_topic(stage: Stage, cluster: FakeCluster) -> None:
    result = await produce.measure(stage, FLOORS, setting(producers=2))
    assert result.passed
    assert result.checks[0].evidence == "95 acknowledged; the topic holds 95"
    assert {one.name for one in result.usage} == {"producer 1", "producer 2"}
    assert cluster.topics == {}


async def test_a_soak_counts_elections_and_finds_what_it_counted(stage: Stage, cluster: FakeCluster) -> None:
    chosen = setting(records=None, seconds=0.2)
    found = await soak.measure(stage, FLOORS, chosen, keep=1_000_000)
    assert found.passed, found.checks
    assert [check.name for check in found.checks] == ["counted", "none failed", "nobody stood for election"]
    assert found.figures[2].value == 0
    assert "1 MB" in found.setting
    assert found.notes[0].endswith("first 0.04 s")
    assert not [topic for topic in cluster.topics if topic.startswith("bench-")]
    stood = iter(({7: 1, 8: 4}, {7: 3, 8: 4}))

    async def terms() -> dict[int, int]:
        return next(stood)

    stage.terms = terms  # type: ignore[method-assign]
    found = await soak.measure(stage, FLOORS, chosen)
    assert (found.passed, found.figures[2].value) == (False, 2)


def test_memory_is_that_of_the_nodes_and_growth_that_after_a_while() -> None:
    nodes = [Usage(f"node {n}", 0.5, 1, n * 1_000_000, 1, -n * 100_000.0, 0) for n in (1, 2)]
    assert [(figure.value, figure.unit) for figure in soak._memory(nodes)] == [(2, "MB"), (-0.1, "MB/min")]
    assert soak._memory([]) == ()
    assert [produce.warm_up(setting(seconds=seconds)) for seconds in (10, 600, None)] == [2, 60, 0]


async def test_consumers_that_read_along_get_everything(stage: Stage) -> None:
    result = await end_to_end.measure(stage, FLOORS, setting(), 2)
    assert result.passed
    assert result.checks[-1].evidence == "95 there, read: [95, 95]"


async def test_a_backlog_is_shared_by_consumers(stage: Stage) -> None:
    result = await consume.measure(stage, FLOORS, setting(), 2)
    assert result.checks == (("all read", True, "95 there, 95 read"),)


async def test_latency_is_set_against_call_and_sync(stage: Stage) -> None:
    result = await latency.measure(stage, FLOORS, 10, Acks.ALL, 0.2)
    assert result.passed
    assert result.latencies[0].floor is not None
    assert result.latencies[0].floor.value == pytest.approx(0.002)


async def test_a_benchmark_of_which_nothing_was_acknowledged_has_no_figures(stage: Stage, cluster: FakeCluster) -> None:
    cluster.script("Produce", *[Fault(refuse=InvalidArgument("no", field="batch"))] * 2)
    with pytest.raises(CommandError, match=r"nothing was acknowledged.*INVALID_ARGUMENT"):
        await produce.measure(stage, FLOORS, setting(records=20))


async def test_records_that_are_missing_or_too_many_fail_the_check(stage: Stage, cluster: FakeCluster) -> None:
    cluster.create("orders", partitions=2)
    await load(cluster).run(AtOnce())
    assert (await counted(stage, "orders", 95, 0)).passed
    assert (await counted(stage, "orders", 90, 5)).passed
    assert not (await counted(stage, "orders", 96, 0)).passed
    assert not (await counted(stage, "orders", 90, 4)).passed


async def test_only_own_nodes_are_killed_and_only_visible_ones_looked_at(stage: Stage, cluster: FakeCluster) -> None:
    with pytest.raises(CommandError, match="nodes of its own"):
        await failover.measure(stage, FLOORS, 1, Victim.LEADER, size=10, batch=1)
    with pytest.raises(CommandError, match="nodes of its own"):
        await restart.measure(stage, FLOORS, 1, size=1000, partitions=1)
    with pytest.raises(CommandError, match="do not run on this machine"):
        await idle.measure(stage, FLOORS, 10, 1)
    assert cluster.topics == {}


def test_pauses_are_told_apart_by_death_and_return() -> None:
    times = [0, 1, 1.5, 2, 2.1, 2.2, 3.2, 3.3]
    produced = Produced(0, [Sample(0, at, 0, 1) for at in times])
    at_kill, at_return = failover.pauses(produced, [Kill(killed_at=1.1, restarted_at=2.15, settled_at=3)])
    assert at_kill.maximum == 0.5
    assert at_return.maximum == 1.0


# -- processes ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Echoed:
    word: str
    fails: bool = False
    times: int = 1

    async def run(self, signals: Signals) -> tuple[str, object]:
        await signals.started()
        if self.fails:
            raise ValueError("as asked")
        await signals.ending.wait()
        return self.word * self.times, signals.payload


async def test_workers_begin_together_and_return_what_they_found() -> None:
    loads: Sequence[Echoed] = [Echoed("a"), Echoed("b")]
    async with working(loads) as workers:
        assert len({worker.pid for worker in workers} | {os.getpid()}) == 3
        for worker in workers:
            worker.end({"x": 1})
        assert await run_all(workers) == [("a", {"x": 1}), ("b", {"x": 1})]


async def test_an_outcome_may_be_more_than_a_pipe_holds() -> None:
    async with working([Echoed("a", times=10_000_000)]) as workers:
        workers[0].end()
        assert await run_all(workers) == [("a" * 10_000_000, None)]


async def test_what_a_load_raises_is_told() -> None:
    async with working([Echoed("a", fails=True)]) as workers:
        with pytest.raises(CommandError, match="ValueError: as asked"):
            await run_all(workers)


async def test_a_load_whose_process_is_killed_is_told() -> None:
    async with working([Echoed("a")]) as (worker,):
        worker.begin()
        worker.raise_if_dead()
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(CommandError, match="ended with status -9"):
            await worker.outcome()
        with pytest.raises(CommandError, match="ended with status -9"):
            worker.raise_if_dead()
        worker.end()


async def test_workers_are_gone_when_their_block_ends() -> None:
    worker: Worker[Any]
    async with working([Echoed("a")]) as (worker,):
        pid = worker.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


# -- place -------------------------------------------------------------------------------------------------------


def test_own_nodes_have_ports_and_directories_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where there is no cluster.yml
    config = configuration(DEFAULT_CONFIG, tmp_path)
    ports = [port for node in config.nodes for port in (node.client_port, node.peer_port, node.http_port)]
    assert len(set(ports)) == 9
    assert len({node.data for node in config.nodes}) == 3


def test_limits_and_timeouts_are_those_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yml"
    node = "{id: 1, client_port: 1, peer_port: 2, http_port: 3, data: x}"
    file.write_text(f"cluster: mine\nnodes: [{node}]\nlimits: {{tail_cache_bytes: 7}}\n")
    config = configuration(file, tmp_path)
    assert (config.cluster, len(config.nodes), config.limits.tail_cache_bytes) == ("bench", 3, 7)


def test_free_ports_are_different() -> None:
    assert len(set(free_ports(20))) == 20
