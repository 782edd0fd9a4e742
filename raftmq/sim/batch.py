"""Many seeds over all cores, and what they amount to. ``results.py`` writes it down."""

from __future__ import annotations

import gc
import multiprocessing
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from raftmq.sim.plan import KINDS, MEMBER_KINDS
from raftmq.sim.simulation import Result, run_seed

PACKAGE = Path(__file__).parent.parent
SIMULATED = (
    "ids.py", "errors.py", "ports.py", "status.py", "assembly.py", "raft", "records", "partition", "metadata", "config",
    "groups", "exchanges", "machines.py", "replica", "coordinator", "controller", "broker", "client", "storage",
    "rpc/codec.py", "sim", "chaos/checks", "chaos/queue_events.py",
)  # fmt: skip
"""What a verdict is about."""

WORTH_REACHING = (
    "leaders elected", "leader changes with uncommitted entries", "truncations", "suspect disks",
    "suspect replicas cleared", "records acknowledged", "records retried", "duplicates answered", "records consumed",
    "bounds answered", "topics created", "topics deleted", "catch-ups from disk", "call NOT_ENOUGH_REPLICAS",
    "records unknown", "records failed", "entries shared by requests", "records published", "bindings changed",
    "snapshots installed", "snapshots installed under a leader change", "nodes added", "nodes removed",
    "members started", "members killed", "members overslept", "members stopped for a while", "members fenced",
    "partitions taken up", "partitions lost", "records processed by members", "committed offsets answered",
    "group commits ok", "group commits failed", "group commits unknown",
    "messages handed out", "messages parked", "messages redriven", "messages gone", "queues sought", "queue pause",
    "queue cancel", "queue peek", "records held beside the log", "verdict ack taken", "verdict retry taken",
    "verdict release taken", "verdict park taken", "verdict extend taken", "verdict LEASE_EXPIRED",
    "verdicts DUPLICATE", "verdicts PARKED", "verdicts DROPPED", "verdicts under another leader", "leases run out",
    "leases run out while a worker was stopped", "call QUEUE_PAUSED", "workers: kill", "workers: pause", "workers: cut",
    "results published", "hand-overs told", "hand-overs told as duplicates", "hand-overs repeated",
    "hand-overs of several messages", "hand-overs that overlap", "hand-overs of work done before",
    "hand-overs with other records refused", "hand-over LEASE_EXPIRED", "hand-overs in doubt that counted",
    "hand-overs in doubt that did not count",
    "dead letters copied", "dead letters removed", "dead letters copied by another leader",
    "dead letters of a message parked again",
    "call QUEUE_FULL", "call OVERFLOW_DROPPED", "hand-over OVERFLOW_DROPPED", "records dropped for newer ones",
)  # fmt: skip
"""States that a batch should come through; one that is never reached is a hole in the workload."""

SEEDS_A_PROCESS = 1_000
"""After so many a process is replaced by a fresh one."""


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
    failures: dict[int, str] = field(default_factory=dict)
    """What was wrong, by seed."""

    def add(self, result: Result, seconds: float) -> None:
        """One more seed, that took `seconds` of a core."""
        self.seeds += 1
        self.events += result.events
        self.virtual_ms += result.virtual_ms
        self.cpu_s += seconds
        self.faults.update(result.faults)
        self.states.update(result.states)
        if not result.passed:
            self.failures[result.seed] = result.error

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
            "failed": [{"seed": seed, "error": error} for seed, error in sorted(self.failures.items())],
            "events": self.events,
            "virtual_seconds": self.virtual_ms / 1000,
            "cpu_seconds": round(self.cpu_s, 3),
            "events_per_second_and_core": round(self.speed),
            "faults": dict(sorted(self.faults.items())),
            "states": dict(sorted(self.states.items())),
            "holes": self.holes,
        }

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Summary:
        """What ``as_json`` made."""
        return cls(
            source=found["source"],
            seeds=found["seeds"],
            events=found["events"],
            virtual_ms=round(found["virtual_seconds"] * 1000),
            cpu_s=found["cpu_seconds"],
            faults=Counter(found["faults"]),
            states=Counter(found["states"]),
            failures={failure["seed"]: failure["error"] for failure in found["failed"]},
        )


def run_batch(seeds: Sequence[int], jobs: int) -> Iterator[tuple[Result, float]]:
    """Run `seeds` in `jobs` processes; yields what became of each, in no particular order, and its seconds of a core.

    Whoever stops taking results ends the processes.
    """
    if jobs == 1:
        gc.freeze()
        try:
            yield from map(_timed, seeds)
        finally:
            gc.unfreeze()
        return
    context = multiprocessing.get_context("spawn")
    with context.Pool(jobs, _be_worker, maxtasksperchild=SEEDS_A_PROCESS) as pool:
        yield from pool.imap_unordered(_timed, seeds)


def _be_worker() -> None:
    """Ctrl-C reaches every process of a terminal; only the first one answers it.

    What is there by now, with everything imported, stays: it must not be looked through again after each seed. (That
    this function is in this module is what has the modules imported before it runs.)
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.freeze()


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
