"""The gate: every known bug has to be caught, by the simulation or by a test.

Results are kept in a file under a key of what they are about: the code, the mutant, its test. Whatever has the same key
is not run again, and a search goes on at the seed where it stopped.
"""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from types import FrameType

import pytest

from raftmq.sim.batch import source_hash
from raftmq.sim.simulation import run_seed
from tests.mutants.table import Mutant, all_mutants

ROOT = Path(__file__).parent.parent.parent
CHUNK = 10
"""Seeds that one process runs before it says how far it has come."""
SEED_CPU_S = 120
"""A seed that takes longer spins: that is a way to fail, too."""


@dataclass
class Found:
    """What is known of one mutant. ``tried``: seeds that ran, the one that caught it among them."""

    key: str
    tried: int = 0
    check: str = ""
    """What the simulation said; empty while it has not caught it."""
    tested: str = ""
    """"caught" or "missed", where a test is named and has run."""

    @property
    def is_caught(self) -> bool:
        return bool(self.check) or self.tested == "caught"


class Results:
    """The file. Written after every step."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.found: dict[str, Found] = {}
        if file.exists():
            kept = json.loads(file.read_text(encoding="utf-8"))
            self.found = {name: Found(**one) for name, one in kept.items()}

    def of(self, mutant: Mutant, source: str) -> Found:
        """What is known of `mutant` on this very code; nothing, if it is of another."""
        key = f"{source} {mutant.digest} {_test_digest(mutant)}"
        known = self.found.get(mutant.name)
        if known is None or known.key != key:
            known = self.found[mutant.name] = Found(key)
        return known

    def save(self) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        kept = {name: asdict(one) for name, one in sorted(self.found.items())}
        self._file.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


def _test_digest(mutant: Mutant) -> str:
    if not mutant.test:
        return "-"
    return blake2b((ROOT / mutant.test.partition("::")[0]).read_bytes(), digest_size=8).hexdigest()


def run_gate(
    mutants: list[Mutant], results: Results, jobs: int, seeds_max: int | None
) -> Iterator[tuple[Mutant, Found]]:
    """Run what is not known yet, `seeds_max` of the seeds or as many as it asks for; yields each mutant when
    it is decided."""
    source = source_hash()
    left = {mutant.name: mutant for mutant in mutants}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.mutants.gate"])  # a process for each step, and the imports once
    with ProcessPoolExecutor(jobs, mp_context=context, max_tasks_per_child=1) as pool:
        running: dict[Future[tuple[int, str] | str], Mutant] = {}
        while left or running:
            for mutant in list(left.values())[: jobs - len(running)]:
                del left[mutant.name]
                found = results.of(mutant, source)
                more = (mutant.seeds if seeds_max is None else seeds_max) - found.tried
                if mutant.test and not found.tested:
                    running[pool.submit(run_test, mutant.name, mutant.test)] = mutant
                elif not found.check and more > 0:
                    running[pool.submit(search, mutant.name, found.tried, min(CHUNK, more))] = mutant
                else:
                    yield mutant, found
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                mutant = running.pop(done)
                found = results.of(mutant, source)
                outcome = done.result()
                if isinstance(outcome, str):
                    found.tested = outcome
                else:
                    found.tried, found.check = outcome
                results.save()
                left = {mutant.name: mutant, **left}


def run_test(name: str, test: str) -> str:
    """Run the named test with the mutant: it has to fail."""
    os.chdir(ROOT)
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said):
        all_mutants()[name].apply(patch)
        code = pytest.main(["-q", "-x", "-p", "no:cacheprovider", test])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise RuntimeError(f"{name}: pytest ended with {code!r}\n{said.getvalue()[-2000:]}")
    return "caught" if code == pytest.ExitCode.TESTS_FAILED else "missed"


def search(name: str, first: int, count: int) -> tuple[int, str]:
    """Run `count` seeds from `first` on with the mutant: how many have run by now, and what caught it, if any did."""
    signal.signal(signal.SIGPROF, _spins)
    with pytest.MonkeyPatch.context() as patch:
        all_mutants()[name].apply(patch)
        for seed in range(first, first + count):
            error = _run(seed)
            if error:
                return seed + 1, error
    return first + count, ""


class _Spins(BaseException):
    """Not for whoever catches errors inside."""


def _spins(number: int, frame: FrameType | None) -> None:
    raise _Spins


def _run(seed: int) -> str:
    signal.setitimer(signal.ITIMER_PROF, SEED_CPU_S)
    try:
        return told(run_seed(seed).error)
    except _Spins:
        return "does not come to an end"
    except Exception as error:  # noqa: BLE001  whatever it breaks, it was noticed
        return f"{type(error).__name__} in the simulation"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def told(error: str) -> str:
    """Which check it was that failed, from what it said."""
    head = error.partition(":")[0]
    if len(head) > 3 and head[0] in "RLCQ" and head[1].isdigit():
        return head
    for word in ("halted", "spins", "cannot follow", "no cluster was formed", "out of range"):
        if word in error:
            return {"halted": "a replica halts", "cannot follow": "the store's log order"}.get(word, word)
    if error.startswith("queues are not done"):
        return "queues are not done"
    if error.startswith("not well"):
        return "not well after the faults"
    return error.partition("\n")[0][:60]
