"""What is known of single records, in columns: a number each, in pages of 256 that exist only where one is not 0."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from raftmq.internal.v1 import queues_pb2

SHIFT = 8
WIDTH = 1 << SHIFT
"""Records in a page."""
_LAST = WIDTH - 1
_BYTES = {"Q": 8, "I": 4, "B": 1}


class Column:
    """One number for each offset, 0 unless set."""

    __slots__ = ("_code", "_limit", "pages")

    def __init__(self, code: str) -> None:
        self._code = code
        self._limit = (1 << 8 * _BYTES[code]) - 1
        self.pages: dict[int, array[int]] = {}

    def __getitem__(self, offset: int) -> int:
        page = self.pages.get(offset >> SHIFT)
        return 0 if page is None else page[offset & _LAST]

    def __setitem__(self, offset: int, value: int) -> None:
        page = self.pages.get(offset >> SHIFT)
        if page is None:
            if value == 0:
                return
            page = self.pages[offset >> SHIFT] = array(self._code, bytes(WIDTH * _BYTES[self._code]))
        page[offset & _LAST] = min(value, self._limit)

    def set_page(self, number: int, values: object) -> None:
        """A page as it was stored: empty, or a number for each record. Raises ValueError."""
        page = array(self._code, values)  # type: ignore[call-overload]
        if len(page) not in (0, WIDTH):
            raise ValueError(f"a page of {len(page)} records")
        if page:
            self.pages[number] = page

    def stored(self, number: int) -> array[int] | tuple[()]:
        """A page as it is to be stored."""
        page = self.pages.get(number)
        return page if page is not None and any(page) else ()


class Records:
    """The columns of a group. Rows hold a page of all of them."""

    def __init__(self) -> None:
        self.keys = Column("Q")
        """Hash of the key; 0: none."""
        self.lanes = Column("Q")
        self.due = Column("Q")
        """When it is to be delivered: 2 * milliseconds, + 1 where they are of log tick. 0: it has been due always."""
        self.expires = Column("Q")
        """Wall milliseconds; 0: never."""
        self.priorities = Column("B")
        self.handouts = Column("I")
        """Those that have ended."""
        self.failures = Column("I")
        self.redrives = Column("B")
        self.changed: set[int] = set()
        """Pages that are not as they were stored."""
        self._columns = (
            self.keys, self.lanes, self.due, self.expires, self.priorities, self.handouts, self.failures, self.redrives,
        )  # fmt: skip

    def set(self, column: Column, offset: int, value: int) -> None:
        """Set a number, which is to be stored."""
        if column[offset] != value:
            column[offset] = value
            self.changed.add(offset >> SHIFT)

    def __bool__(self) -> bool:
        """Whether anything is known of any record."""
        return any(column.pages for column in self._columns)

    def drop(self, number: int) -> None:
        """Forget a page."""
        for column in self._columns:
            if column.pages.pop(number, None) is not None:
                self.changed.add(number)

    def pages(self) -> Iterator[int]:
        """Numbers of the pages of which something is to be stored, ascending."""
        numbers = {number for column in self._columns for number in column.pages}
        return (number for number in sorted(numbers) if any(column.stored(number) for column in self._columns))

    def encode(self, number: int) -> bytes | None:
        """The row of a page; None: there is nothing to store."""
        row = queues_pb2.QueueRecordsRow(
            keys=self.keys.stored(number),
            lanes=self.lanes.stored(number),
            due=self.due.stored(number),
            expires=self.expires.stored(number),
            priorities=self.priorities.stored(number),
            handouts=self.handouts.stored(number),
            failures=self.failures.stored(number),
            redrives=self.redrives.stored(number),
        )
        return row.SerializeToString() or None

    def decode(self, number: int, value: bytes) -> None:
        """Take over the row of a page. Raises ValueError, DecodeError, OverflowError."""
        row = queues_pb2.QueueRecordsRow.FromString(value)
        fields = (
            row.keys, row.lanes, row.due, row.expires, row.priorities, row.handouts, row.failures, row.redrives,
        )  # fmt: skip
        for column, values in zip(self._columns, fields, strict=True):
            column.set_page(number, values)
