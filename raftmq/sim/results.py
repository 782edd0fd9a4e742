"""What all batches on one state of the code have found, in a file that is good at every moment.

It is replaced as a whole, every few seconds while a batch runs: whoever ends a batch loses next to nothing, and the
next one goes on. The hash of the simulated code stands in it, and another hash starts it anew. Several batches may add
to one file at a time. No seed counts twice.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path
from typing import Any

from raftmq.sim.batch import Summary
from raftmq.sim.simulation import Result

WRITE_EVERY_S = 5.0


class Recorded:
    """What stands in the file: which seeds ran clean, and sums over them and those that failed."""

    def __init__(self, summary: Summary, clean: set[int]) -> None:
        self.summary = summary
        self.clean = clean

    def has(self, seed: int) -> bool:
        """It has run, clean or not."""
        return seed in self.clean or seed in self.summary.failures

    def add(self, result: Result, seconds: float) -> None:
        """One more seed, unless it is known."""
        if not self.has(result.seed):
            self.summary.add(result, seconds)
            if result.passed:
                self.clean.add(result.seed)

    def next_seeds(self, number: int) -> list[int]:
        """The lowest seeds that have not run yet."""
        return list(islice((seed for seed in count() if not self.has(seed)), number))

    def as_json(self) -> dict[str, Any]:
        return {"clean": len(self.clean), "clean_seeds": _spans(self.clean), **self.summary.as_json()}


class Results:
    """The file of a batch. ``source``: the hash of the code."""

    def __init__(self, file: Path, source: str) -> None:
        self._file = file
        self._source = source
        self._new: list[tuple[Result, float]] = []
        self._written = time.monotonic()

    def read(self) -> Recorded:
        """What is known of this very code; nothing, if the file is about another one."""
        if self._file.exists():
            found = json.loads(self._file.read_text(encoding="utf-8"))
            if found.get("source") == self._source:
                clean = {seed for first, last in found["clean_seeds"] for seed in range(first, last + 1)}
                return Recorded(Summary.from_json(found), clean)
        return Recorded(Summary(self._source), set())

    def add(self, result: Result, seconds: float) -> None:
        """A seed is done. It is in the file some seconds later, or with the next ``write``."""
        self._new.append((result, seconds))
        if time.monotonic() - self._written >= WRITE_EVERY_S:
            self.write()

    def write(self) -> Recorded:
        """Add what is new to the file. Whoever is interrupted in the middle leaves it as it was."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._alone():
            recorded = self.read()
            for result, seconds in self._new:
                recorded.add(result, seconds)
            written = self._file.with_name(f"{self._file.name}.{os.getpid()}")
            with written.open("w", encoding="utf-8") as out:
                out.write(json.dumps(recorded.as_json(), indent=2) + "\n")
                out.flush()
                os.fsync(out.fileno())
            written.replace(self._file)
        self._new.clear()
        self._written = time.monotonic()
        return recorded

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._file.with_name(f"{self._file.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _spans(seeds: Iterable[int]) -> list[list[int]]:
    """First and last of every run of consecutive numbers."""
    spans: list[list[int]] = []
    for seed in sorted(seeds):
        if spans and spans[-1][1] == seed - 1:
            spans[-1][1] = seed
        else:
            spans.append([seed, seed])
    return spans
