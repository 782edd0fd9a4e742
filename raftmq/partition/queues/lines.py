"""Who waits for whom in a group that is ordered by key: a line of open records for each key, in order of offsets.

Only the first of a line may be handed out, and only while no other record of its key is leased. A parked record is in
no line: its key goes on without it.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left

_COMPACT = 64


class Line:
    """Offsets of one key, ascending; those before `first` are gone."""

    __slots__ = ("first", "offsets")

    def __init__(self, offsets: array[int]) -> None:
        self.offsets = offsets
        self.first = 0

    def add(self, offset: int) -> None:
        if offset > self.offsets[-1]:
            self.offsets.append(offset)
        else:
            self.offsets.insert(bisect_left(self.offsets, offset, self.first), offset)

    def remove(self, offset: int) -> None:
        at = bisect_left(self.offsets, offset, self.first)
        assert self.offsets[at] == offset, f"offset {offset} is not in its line"
        if at > self.first:
            del self.offsets[at]
            return
        self.first += 1
        if self.first >= _COMPACT and 2 * self.first >= len(self.offsets):
            del self.offsets[: self.first]
            self.first = 0


class Lines:
    """All lines of a group. A key whose line is empty takes no room."""

    def __init__(self) -> None:
        self._lines: dict[int, int | Line] = {}
        """Most keys have one open record: it stands here by itself."""
        self.leased: dict[int, int] = {}
        """How many records of a key are leased: more than one only if they were leased before the group was ordered."""

    def __len__(self) -> int:
        return len(self._lines)

    def head(self, key: int) -> int | None:
        """The first open record of a key."""
        line = self._lines.get(key)
        return line.offsets[line.first] if isinstance(line, Line) else line

    def add(self, key: int, offset: int) -> None:
        """A record is open, and not parked."""
        line = self._lines.get(key)
        if line is None:
            self._lines[key] = offset
        elif isinstance(line, Line):
            line.add(offset)
        else:
            self._lines[key] = Line(array("Q", sorted((line, offset))))

    def remove(self, key: int, offset: int) -> None:
        """It is final, or parked."""
        line = self._lines[key]
        if isinstance(line, Line):
            line.remove(offset)
            if line.first == len(line.offsets):
                del self._lines[key]
        else:
            assert line == offset, f"offset {offset} is not in its line"
            del self._lines[key]

    def lease(self, key: int) -> None:
        """One of its records is handed out."""
        self.leased[key] = self.leased.get(key, 0) + 1

    def give_back(self, key: int) -> None:
        """It is settled, or its lease has ended."""
        left = self.leased[key] - 1
        if left:
            self.leased[key] = left
        else:
            del self.leased[key]
