"""Lines as records: plain text, JSON objects, or CSV rows under a header."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from enum import Enum

Row = tuple[bytes | None, bytes]
"""Key and value."""
Parser = Callable[[bytes], Row | None]
"""Takes the next line; None: it completes no record."""


class InputFormat(Enum):
    TEXT = "text"
    JSON = "json"
    CSV = "csv"


class RowError(ValueError):
    """A line that is no row. The text says why."""


def parser(form: InputFormat, key: str | None, separator: bytes) -> Parser:
    """For the lines of one file."""
    match form:
        case InputFormat.TEXT:
            return lambda line: split(line, separator)
        case InputFormat.JSON:
            return lambda line: _json_row(line, key)
        case InputFormat.CSV:
            return CsvRows(key)


def split(line: bytes, separator: bytes) -> Row:
    """Key and value of a line; without a separator there is no key."""
    if separator:
        key, found, value = line.partition(separator)
        if found:
            return key, value
    return None, line


def _json_row(line: bytes, key: str | None) -> Row | None:
    """The line is the value, byte for byte."""
    line = line.strip()
    if not line:
        return None
    try:
        fields = json.loads(line)
    except ValueError as error:
        raise RowError(f"no JSON ({error})") from None
    if not isinstance(fields, dict):
        raise RowError("each line must be a JSON object")
    if key is not None and key not in fields:
        raise RowError(f"there is no field '{key}' among {', '.join(fields)}")
    return (None if key is None else _key(fields[key])), line


def _key(value: object) -> bytes | None:
    """Text as it is, other values as JSON writes them; null is no key."""
    if value is None:
        return None
    return (value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)).encode()


class CsvRows:
    """Rows as JSON objects. The first line names the columns; a quoted field may go over several lines (RFC 4180)."""

    def __init__(self, key: str | None) -> None:
        self._key = key
        self._columns: list[str] | None = None
        self._begun = ""

    def __call__(self, line: bytes) -> Row | None:
        try:
            self._begun += line.decode("utf-8-sig" if self._columns is None else "utf-8")
        except UnicodeDecodeError:
            raise RowError("no UTF-8") from None
        if self._begun.count('"') % 2:
            self._begun += "\n"
            return None
        text, self._begun = self._begun.removesuffix("\r"), ""
        try:
            fields = next(csv.reader([text], strict=True), [])
        except csv.Error as error:
            raise RowError(str(error)) from None
        return self._row(fields) if fields else None

    def end(self) -> None:
        """The file is over. Raises RowError where a quoted field is not."""
        if self._begun:
            raise RowError("the file ends within a quoted field")

    def _row(self, fields: list[str]) -> Row | None:
        if self._columns is None:
            if self._key is not None and self._key not in fields:
                raise RowError(f"there is no column '{self._key}' among {', '.join(fields)}")
            self._columns = fields
            return None
        if len(fields) != len(self._columns):
            raise RowError(f"{len(fields)} fields, the header has {len(self._columns)}")
        named = dict(zip(self._columns, fields, strict=True))
        key = None if self._key is None else named[self._key].encode()
        return key, json.dumps(named, separators=(",", ":"), ensure_ascii=False).encode()
