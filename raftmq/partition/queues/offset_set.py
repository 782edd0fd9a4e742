"""Sets of offsets: a bit each, in pages.

A page is one integer of 4,096 bits, so a run of neighbours is set, cleared or found with one operation, and a million
offsets take 125 KB however they are strewn::

    page 0                     page 1                     page 3        pages without an offset are not there
    [1111111100001111...]      [0000000000000001...]      [...]
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, insort
from collections.abc import Iterator, Sequence

SHIFT = 12
WIDTH = 1 << SHIFT
"""Offsets in a page."""
_LAST = WIDTH - 1


class OffsetSet:
    """Offsets in ascending order. ``len`` is its size."""

    __slots__ = ("_count", "_order", "_pages")

    def __init__(self) -> None:
        self._pages: dict[int, int] = {}
        self._order: list[int] = []
        """Numbers of the pages that are there, ascending."""
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, offset: int) -> bool:
        return bool(self._pages.get(offset >> SHIFT, 0) >> (offset & _LAST) & 1)

    def __iter__(self) -> Iterator[int]:
        for first, after in self.runs():
            yield from range(first, after)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OffsetSet) and self._pages == other._pages

    __hash__ = None  # type: ignore[assignment]

    def runs(self, first: int = 0) -> Iterator[tuple[int, int]]:
        """[first, after) of every run of neighbours, ascending, from the page of `first` on; cut at page bounds."""
        for number in self._order[bisect_left(self._order, first >> SHIFT) :]:
            base, page = number << SHIFT, self._pages.get(number, 0)
            at = 0
            while page:
                skip = (page & -page).bit_length() - 1
                page >>= skip
                length = (~page & (page + 1)).bit_length() - 1
                yield base + at + skip, base + at + skip + length
                page >>= length
                at += skip + length

    def lowest(self) -> int | None:
        """The first offset, if there is one."""
        if not self._order:
            return None
        page = self._pages[self._order[0]]
        return (self._order[0] << SHIFT) + (page & -page).bit_length() - 1

    def add(self, offset: int) -> None:
        """`offset` is in the set."""
        self._put(offset >> SHIFT, 1 << (offset & _LAST))

    def discard(self, offset: int) -> bool:
        """`offset` is not in the set. Returns whether it was."""
        return self._take(offset >> SHIFT, 1 << (offset & _LAST)) > 0

    def add_range(self, first: int, after: int) -> None:
        """Everything in [first, after) is in the set."""
        for number, mask in _masks(first, after):
            self._put(number, mask)

    def discard_range(self, first: int, after: int) -> int:
        """Nothing in [first, after) is in the set. Returns how much was. Costs as much as there is, not as is asked."""
        if after - first <= WIDTH:
            return sum(self._take(number, mask) for number, mask in _masks(first, after))
        low = bisect_left(self._order, first >> SHIFT)
        numbers = self._order[low : bisect_left(self._order, ((after - 1) >> SHIFT) + 1)]
        taken = 0
        for number in numbers:
            begin, end = max(first, number << SHIFT), min(after, (number + 1) << SHIFT)
            taken += sum(self._take(page, mask) for page, mask in _masks(begin, end))
        return taken

    def discard_sorted(self, offsets: Sequence[int]) -> int:
        """None of `offsets`, which ascend, is in the set. Returns how many were."""
        if not offsets:
            return 0
        if offsets[-1] - offsets[0] == len(offsets) - 1:
            return self.discard_range(offsets[0], offsets[-1] + 1)
        return sum(self._take(number, mask) for number, mask in _gathered(offsets))

    def take_lowest(self, most: int) -> array[int]:
        """Take out up to `most` offsets, the lowest ones."""
        taken = array("Q")
        for first, after in self.runs():
            after = min(after, first + most - len(taken))
            taken.extend(range(first, after))
            if len(taken) == most:
                break
        self.discard_sorted(taken)
        return taken

    def part(self, first: int, width: int) -> int:
        """The bits of [first, first + width), which lies within one page."""
        return self._pages.get(first >> SHIFT, 0) >> (first & _LAST) & ((1 << width) - 1)

    def page(self, number: int) -> int:
        """The bits of a page."""
        return self._pages.get(number, 0)

    def set_page(self, number: int, bits: int) -> None:
        """A page is these bits."""
        assert 0 <= bits < 1 << WIDTH, "more bits than a page has"
        self._take(number, self._pages.get(number, 0))
        if bits:
            self._put(number, bits)

    def pages(self) -> list[int]:
        """Numbers of the pages with an offset, ascending."""
        return list(self._order)

    def _put(self, number: int, mask: int) -> None:
        page = self._pages.get(number)
        if page is None:
            insort(self._order, number)
            page = 0
        self._pages[number] = page | mask
        self._count += mask.bit_count() - (page & mask).bit_count()

    def _take(self, number: int, mask: int) -> int:
        page = self._pages.get(number)
        if page is None:
            return 0
        taken = (page & mask).bit_count()
        left = page & ~mask
        if left:
            self._pages[number] = left
        else:
            del self._pages[number]
            del self._order[bisect_left(self._order, number)]
        self._count -= taken
        return taken


class StoredOffsetSet(OffsetSet):
    """One whose pages are rows: it knows which of them have changed."""

    __slots__ = ("changed",)

    def __init__(self) -> None:
        super().__init__()
        self.changed: set[int] = set()

    def _put(self, number: int, mask: int) -> None:
        self.changed.add(number)
        super()._put(number, mask)

    def _take(self, number: int, mask: int) -> int:
        self.changed.add(number)
        return super()._take(number, mask)


def _masks(first: int, after: int) -> Iterator[tuple[int, int]]:
    """(page, bits) that make up [first, after)."""
    while first < after:
        number = first >> SHIFT
        end = min(after, (number + 1) << SHIFT)
        yield number, ((1 << (end - first)) - 1) << (first & _LAST)
        first = end


def _gathered(offsets: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(page, bits) that make up `offsets`, which ascend."""
    number, mask = offsets[0] >> SHIFT, 0
    for offset in offsets:
        if offset >> SHIFT != number:
            yield number, mask
            number, mask = offset >> SHIFT, 0
        mask |= 1 << (offset & _LAST)
    yield number, mask
