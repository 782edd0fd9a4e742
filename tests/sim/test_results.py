"""What a batch writes down survives an interruption, adds up, and never counts a seed twice."""

from __future__ import annotations

import json
import signal
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from raftmq.cli import sim as command
from raftmq.cli.main import build
from raftmq.sim import batch, results
from raftmq.sim.batch import run_batch
from raftmq.sim.results import Results
from raftmq.sim.simulation import Result


def _result(seed: int, error: str = "") -> Result:
    return Result(seed, f"{seed:016x}", 1_000, 2_500, error, faults=Counter(kill=2), states=Counter(elections=3))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "sim.json"


def test_seeds_add_up_over_batches_and_none_counts_twice(file: Path) -> None:
    first, second = Results(file, "one"), Results(file, "one")
    for seed in (0, 1, 2, 7):
        first.add(_result(seed), 0.25)
    first.write()
    for seed in (2, 3):
        second.add(_result(seed), 0.25)
    second.write()
    recorded = first.write()
    assert recorded.clean == {0, 1, 2, 3, 7}
    assert recorded.summary.as_json() == Results(file, "one").read().summary.as_json()
    assert (recorded.summary.seeds, recorded.summary.events, recorded.summary.cpu_s) == (5, 5_000, 1.25)
    assert recorded.summary.virtual_ms == 12_500
    assert (recorded.summary.faults, recorded.summary.states) == (Counter(kill=10), Counter(elections=15))
    assert json.loads(file.read_text())["clean_seeds"] == [[0, 3], [7, 7]]
    assert recorded.next_seeds(4) == [4, 5, 6, 8]


def test_another_code_starts_anew(file: Path) -> None:
    old = Results(file, "one")
    old.add(_result(0), 0.25)
    old.write()
    new = Results(file, "another")
    assert new.read().clean == set()
    new.add(_result(5), 0.25)
    assert new.write().clean == {5}


def test_a_failure_stays_one(file: Path) -> None:
    batch_file = Results(file, "one")
    batch_file.add(_result(3, "R1 does not hold"), 0.25)
    batch_file.write()
    batch_file.add(_result(3), 0.25)
    recorded = batch_file.write()
    assert recorded.summary.failures == {3: "R1 does not hold"}
    assert recorded.clean == set()
    assert recorded.next_seeds(4) == [0, 1, 2, 4]


def test_what_is_done_is_written_meanwhile(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "WRITE_EVERY_S", 0.0)
    Results(file, "one").add(_result(4), 0.25)
    assert Results(file, "one").read().clean == {4}


def _fail_to_write(path: Path, target: Path) -> Path:
    raise OSError("the power is gone")


def test_whoever_is_ended_while_writing_leaves_the_file_as_it_was(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = Results(file, "one")
    mine.add(_result(0), 0.25)
    mine.write()
    mine.add(_result(1), 0.25)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", _fail_to_write)
        with pytest.raises(OSError, match="power"):
            mine.write()
    assert Results(file, "one").read().clean == {0}
    assert mine.write().clean == {0, 1}, "nothing was forgotten"


class Seeds:
    """In place of real ones: remembers which were run. ``fails``: one that does; ``at``: where Ctrl-C is pressed."""

    def __init__(self, fails: int | None = None, at: int | None = None) -> None:
        self.ran: list[int] = []
        self._fails = fails
        self._at = at

    def __call__(self, seeds: Sequence[int], jobs: int) -> Iterator[tuple[Result, float]]:
        for seed in seeds:
            self.ran.append(seed)
            if seed == self._at:
                signal.raise_signal(signal.SIGINT)
            yield _result(seed, "R1 does not hold" if seed == self._fails else ""), 0.25


def _sim(monkeypatch: pytest.MonkeyPatch, seeds: Seeds, *arguments: str) -> tuple[int, dict[str, object]]:
    monkeypatch.setattr(command, "run_batch", seeds)
    done = CliRunner().invoke(build(["sim"]), ["sim", "--json", *arguments], catch_exceptions=False)
    return done.exit_code, json.loads(done.stdout)


def test_an_interrupted_batch_goes_on_where_it_was(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGINT)
    first, second, third = Seeds(at=3), Seeds(), Seeds()
    arguments = "--seeds", "10", "--resume", "--results", str(file)
    code, told = _sim(monkeypatch, first, *arguments)
    assert (code, told["clean"], told["seeds"]) == (130, 4, 4)
    assert signal.getsignal(signal.SIGINT) is before
    code, told = _sim(monkeypatch, second, *arguments)
    assert (code, told["clean"], told["seeds"], told["faults"]) == (0, 10, 10, {"kill": 20})
    assert first.ran + second.ran == list(range(10))
    code, told = _sim(monkeypatch, third, *arguments)
    assert (code, told["clean"], third.ran) == (0, 10, [])


def test_a_batch_without_a_start_takes_seeds_that_have_not_run(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _sim(monkeypatch, Seeds(), "--seeds", "3", "--start", "2", "--results", str(file))
    following, again = Seeds(), Seeds()
    code, told = _sim(monkeypatch, following, "--seeds", "4", "--results", str(file))
    assert following.ran == [0, 1, 5, 6]
    assert (code, told["clean"], told["seeds"]) == (0, 7, 4)
    code, told = _sim(monkeypatch, again, "--seeds", "2", "--start", "5", "--results", str(file))
    assert (again.ran, told["clean"]) == ([5, 6], 7)


def test_a_resumed_batch_tells_of_what_failed_before(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = "--seeds", "4", "--resume", "--results", str(file)
    code, told = _sim(monkeypatch, Seeds(fails=1), *arguments)
    assert (code, told["clean"]) == (1, 3)
    code, told = _sim(monkeypatch, Seeds(), *arguments)
    assert (code, told["failed"]) == (1, [{"seed": 1, "error": "R1 does not hold"}])


def test_processes_agree_with_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "SEEDS_A_PROCESS", 1)
    alone = {result.seed: result.digest for result, _ in run_batch(range(3), 1)}
    many = {result.seed: result.digest for result, _ in run_batch(range(3), 2)}
    assert alone == many
