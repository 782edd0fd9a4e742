"""Many seeds over all cores, and what they amount to.

Results are added up in a file for as long as the simulated code is the same: its hash stands in the file, and another
hash starts it anew.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from raftmq.sim.plan import KINDS, MEMBER_KINDS
from raftmq.sim.simulation import Result, run_seed

PACKAGE = Path(__file__).parent.parent
SIMULATED = (
    "ids.py", "errors.py", "ports.py", "status.py", "assembly.py", "raft", "records", "partition", "metadata", "config",
    "replica", "controller", "broker", "client", "storage",
    "rpc/codec.py", "sim",
)  # fmt: skip
"""What a verdict is about."""

WORTH_REACHING = (
    "leaders elected", "leader changes with uncommitted entries", "truncations", "suspect disks",
    "suspect replicas cleared", "records acknowledged", "records retried", "duplicates answered", "records consumed",
    "bounds answered", "topics created", "topics deleted", "catch-ups from disk", "call NOT_ENOUGH_REPLICAS",
    "records unknown", "records failed", "entries shared by requests", "records published", "bindings changed",
    "snapshots installed", "snapshots installed under a leader change", "nodes added", "nodes removed",
)  # fmt: skip
"""States that a batch should come through; one that is never reached is a hole in the workload."""


def source_hash() -> str:
    """16 hexadecimal digits over every module that takes part."""
    digest = blake2b(digest_size=8)
    for part in SIMULATED:
        path = PACKAGE / part
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(str(file.relative_to(PACKAGE)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


@dataclass(slots=True)
class Summary:
    """What a batch found. Times in seconds."""

    source: str
    seeds: int = 0
    events: int = 0
    virtual_ms: int = 0
    cpu_s: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    failures: list[Result] = field(default_factory=list)

    def add(self, result: Result, seconds: float) -> None:
        self.seeds += 1
        self.events += result.events
        self.virtual_ms += result.virtual_ms
        self.cpu_s += seconds
        self.faults.update(result.faults)
        self.states.update(result.states)
        if not result.passed:
            self.failures.append(result)

    @property
    def speed(self) -> float:
        """Events per second and core."""
        return self.events / self.cpu_s if self.cpu_s else 0.0

    @property
    def holes(self) -> list[str]:
        """Faults that never fired, and states that were never reached."""
        kinds = [kind for kind in (*KINDS, *MEMBER_KINDS) if not self.faults[kind]]
        return kinds + [state for state in WORTH_REACHING if not self.states[state]]

    def as_json(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "seeds": self.seeds,
            "failed": [{"seed": failure.seed, "error": failure.error} for failure in self.failures],
            "events": self.events,
            "virtual_seconds": self.virtual_ms // 1000,
            "events_per_second_and_core": round(self.speed),
            "faults": dict(sorted(self.faults.items())),
            "states": dict(sorted(self.states.items())),
            "holes": self.holes,
        }


def run_batch(seeds: range, jobs: int, summary: Summary) -> Iterator[Result]:
    """Run `seeds` in `jobs` processes; adds each result to `summary`, and yields it, in no particular order."""
    if jobs == 1:
        for seed in seeds:
            result, seconds = _timed(seed)
            summary.add(result, seconds)
            yield result
        return
    with multiprocessing.get_context("spawn").Pool(jobs, gc.freeze, maxtasksperchild=200) as pool:
        for result, seconds in pool.imap_unordered(_timed, seeds):
            summary.add(result, seconds)
            yield result


def _timed(seed: int) -> tuple[Result, float]:
    """Garbage is collected between two seeds, not in the middle of one, where most of what is looked at still lives."""
    began = time.process_time()
    gc.disable()
    try:
        result = run_seed(seed)
    finally:
        gc.enable()
        gc.collect()
    return result, time.process_time() - began


def clean_so_far(file: Path, source: str) -> int:
    """How many seeds have run clean on this very code, as the results file says."""
    if not file.exists():
        return 0
    found = json.loads(file.read_text(encoding="utf-8"))
    return int(found["clean"]) if found.get("source") == source else 0


def note_clean(file: Path, summary: Summary) -> int:
    """Add a batch to the results file. A failure sets the count back: the code is about to change."""
    clean = 0 if summary.failures else clean_so_far(file, summary.source) + summary.seeds
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"clean": clean, **summary.as_json()}, indent=2) + "\n", encoding="utf-8")
    return clean
