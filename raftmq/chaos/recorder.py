"""Writes a history: what its lines mean stands in history.py."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO


class Recorder:
    """Appends to a history. One event loop writes; nothing is lost when a run is broken off, but for the last block."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO | None = None
        self._began = time.monotonic_ns()
        self._next_op = 0
        self._next_value = 0
        self.counts: Counter[str] = Counter()
        """Finished sends and polled records, for the live view."""
        self.errors: Counter[str] = Counter()

    def begin(self) -> None:
        """The run's time counts from here. Nothing has been written yet."""
        self._began = time.monotonic_ns()

    def __enter__(self) -> Self:
        self._file = self._path.open("w", encoding="utf-8", buffering=1 << 16)
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        assert self._file is not None
        self._file.close()
        self._file = None

    @property
    def now_us(self) -> int:
        """Microseconds since the run began."""
        return (time.monotonic_ns() - self._began) // 1000

    def new_value(self) -> int:
        self._next_value += 1
        return self._next_value

    def invoke(self, f: str, **fields: object) -> int:
        """Write that an operation begins; the number that names it."""
        self._next_op += 1
        self.write(f, type="invoke", op=self._next_op, **fields)
        return self._next_op

    def settle(self, f: str, op: int, outcome: str, **fields: object) -> None:
        """Write how an operation ended: ``ok``, ``fail`` or ``info``."""
        self.counts[f"{f} {outcome}"] += 1
        if "error" in fields:
            self.errors[str(fields["error"])] += 1
        self.write(f, type=outcome, op=op, **fields)

    def write(self, f: str, **fields: object) -> None:
        """Write one line. After the end of the run nothing is: an answer may come when nobody waits any more."""
        if self._file is not None:
            self._file.write(json.dumps({"t": self.now_us, "f": f, **fields}, separators=(",", ":")) + "\n")
