"""Who is to read what: pure functions from members, topics and what was before to the next assignment.

Whatever the assignor: every partition that somebody reads is assigned, only to members that read its topic, and no
member has two partitions more than another one that could have one of them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from heapq import heapify, heappop, heappush

from raftmq.groups.types import Assignor, Member, TopicFacts, TopicPartition

Assignment = dict[TopicPartition, str]
"""The member id for each partition; one that nobody reads is left out."""


def assign(
    assignor: Assignor,
    members: Sequence[Member],
    topics: Iterable[TopicFacts],
    before: Mapping[TopicPartition, str],
) -> Assignment:
    """The assignment for `members`. `before`: the last one; members that are gone may be in it."""
    deal = _Deal(members, topics)
    if assignor is Assignor.UNIFORM:
        deal.fill()
        deal.level()
        return deal.assigned
    if assignor is Assignor.RACK_AWARE:
        deal.keep({key: member for key, member in before.items() if deal.is_near(key, member)})
        deal.fill_near()
    deal.keep(before)
    deal.fill_near()
    deal.fill()
    deal.level()
    return deal.assigned


class _Deal:
    """An assignment in the making. Orders are fixed: by topic id, partition and member id."""

    def __init__(self, members: Sequence[Member], topics: Iterable[TopicFacts]) -> None:
        self.assigned: Assignment = {}
        self._members = {member.member_id: member for member in sorted(members, key=lambda one: one.member_id)}
        self._racks: dict[TopicPartition, frozenset[str]] = {}
        self._readers: dict[TopicPartition, tuple[str, ...]] = {}
        for topic in sorted(topics, key=lambda one: one.topic_id):
            readers = tuple(name for name, member in self._members.items() if topic.name in member.topics)
            for key in topic.every() if readers else []:
                self._readers[key] = readers
                self._racks[key] = topic.racks[key.partition] if key.partition < len(topic.racks) else frozenset()
        self._load = dict.fromkeys(self._members, 0)
        self._most = _quotas(self._readers.values())

    def is_near(self, key: TopicPartition, member_id: str) -> bool:
        """The member is in a rack that holds a replica."""
        member = self._members.get(member_id)
        return member is not None and bool(member.rack) and member.rack in self._racks.get(key, frozenset())

    def keep(self, before: Mapping[TopicPartition, str]) -> None:
        """Leave with each member what it had, as far as it may have it, and as much as it may have.

        At first nobody keeps more than the lesser share. Then those that have more keep one more, as long as there are
        greater shares.
        """
        extra: list[tuple[TopicPartition, str]] = []
        above: dict[tuple[str, ...], int] = {}
        for key in sorted(before, key=lambda key: (not self.is_near(key, before[key]), key)):
            member_id = before[key]
            readers = self._readers.get(key, ())
            if key in self.assigned or member_id not in readers:
                continue
            least, greater = self._most[readers]
            if self._load[member_id] < least:
                self._give(key, member_id)
            elif self._load[member_id] == least and greater:
                extra.append((key, member_id))
        for key, member_id in extra:
            readers = self._readers[key]
            least, greater = self._most[readers]
            if readers not in above:
                above[readers] = sum(self._load[one] > least for one in readers)
            if self._load[member_id] == least and above[readers] < greater:
                self._give(key, member_id)
                above[readers] += 1

    def fill_near(self) -> None:
        """What is left, to members near it that have room."""
        by_rack: dict[tuple[str, ...], dict[str, list[str]]] = {}
        for key, readers in self._readers.items():
            if key in self.assigned or not self._racks[key]:
                continue
            if readers not in by_rack:
                found: dict[str, list[str]] = defaultdict(list)
                for one in readers:
                    found[self._members[one].rack].append(one)
                by_rack[readers] = found
            near = [one for rack in sorted(self._racks[key]) for one in by_rack[readers].get(rack, ())]
            if near:
                best = min(near, key=lambda one: (self._load[one], one))
                if self._load[best] < self._most[readers][0]:
                    self._give(key, best)

    def fill(self) -> None:
        """What is left, each to the reader with the least; what few can read first."""
        heaps: dict[tuple[str, ...], list[tuple[int, str]]] = {}
        for key, readers in sorted(self._readers.items(), key=lambda item: (len(item[1]), item[0])):
            if key in self.assigned:
                continue
            if readers not in heaps:
                heaps[readers] = [(self._load[one], one) for one in readers]
                heapify(heaps[readers])
            heap = heaps[readers]
            while heap[0][0] != self._load[heap[0][1]]:  # another heap has given it something meanwhile
                _, stale = heappop(heap)
                heappush(heap, (self._load[stale], stale))
            _, member_id = heappop(heap)
            self._give(key, member_id)
            heappush(heap, (self._load[member_id], member_id))

    def level(self) -> None:
        """Move single partitions from members that have two more than another reader. Ends: each move takes from the
        sum of the squares. Where all members read the same topics there is nothing to do."""
        has_moved = len(set(self._readers.values())) > 1
        while has_moved:
            has_moved = False
            for key, readers in self._readers.items():
                owner = self.assigned[key]
                least = min(readers, key=lambda one: (self._load[one], one))
                if self._load[owner] >= self._load[least] + 2:
                    self._load[owner] -= 1
                    self._give(key, least)
                    has_moved = True

    def _give(self, key: TopicPartition, member_id: str) -> None:
        self.assigned[key] = member_id
        self._load[member_id] += 1


def _quotas(readers_of: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], tuple[int, int]]:
    """For each set of readers: the lesser share, and how many members get one more, if they shared what they all read
    by themselves. Where sets differ and overlap it is a first guess, which ``level`` corrects."""
    counts = Counter(readers_of)
    total = sum(counts.values())
    everybody = {one for readers in counts for one in readers}
    shares: dict[tuple[str, ...], tuple[int, int]] = {}
    for readers in counts:
        is_whole = len(counts) == 1 or len(readers) == len(everybody)
        shares[readers] = divmod(total if is_whole else counts[readers], len(readers))
    return shares
