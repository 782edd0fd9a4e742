"""What happened in a run, as JSON lines: written by ``recorder``, read by ``reading``, judged by the checks.

Every line has ``t``, microseconds since the run began, by one clock that never goes back. Kinds of lines::

    {"f": "client", "client": "producer-1", "idempotent": true}             before a client's first operation
    {"f": "send", "type": "invoke", "op": 7, "client": ..., "partition": "records/0", "values": [12, 13]}
    {"f": "send", "type": "ok", "op": 7, "offset": 40, "epoch": 3, "duplicate": false}
    {"f": "send", "type": "fail" | "info", "op": 7, "error": "NO_LEADER"}
    {"f": "poll", "client": ..., "session": 1, "partition": ..., "offset": 40, "epoch": 3, "values": [12, 13]}
    {"f": "latest", "type": "invoke" | "ok" | "fail", "op": 8, "bounds": {"records/0": [start, high_watermark]}}
    {"f": "topic", "type": ..., "op": 9, "action": "create" | "delete" | "list", "topic": ..., "topics": {name: id}}
    {"f": "observe", "node": 1, "leads": {"records/0": [term, high_watermark, group]}}
    {"f": "fault", "type": "inject" | "heal", "fault": 2, "name": "kill node 3"}
    {"f": "final", "partition": ..., "offset": 0, "epoch": 1, "values": [...]}    the log after the run, in order
    {"f": "end", "partition": ..., "start": 0, "high_watermark": 812}             its bounds, asked before it was read
    {"f": "below", "partition": ..., "offset": 4, "start": 5, "told": "OFFSET_OUT_OF_RANGE"}     a read below the start
    {"f": "replica", "node": 1, "partition": ..., "index": 900, "chain": "9f..", "end": 812}
    {"f": "metadata", "node": 1, "pid": 77, "boot": 3, "version": 17, "last": false, "nodes": [1, 2, 3],
     "topics": {"records": [4, 3, [[1, 2, 3], ...]]}}         id, replication factor, and the replicas of each partition
    {"f": "resources", "node": 1, "threads": 30, "files": 70, "memory": 90000000}      before the faults, and at the end
    {"f": "machine", "lag": 200, "waited": {"1": 1500}}        microseconds in the last second: see ``Strain``
    {"f": "amiss", "message": ..., "late": false}              what should never be, and no operation shows
    {"f": "broken", "message": ...}                            the run ended before its end

What workers of queues do stands in ``queue_events``, what members of groups do in ``group_events``.

A value is a number that is used once in the whole run; -1 stands for bytes that no workload wrote. ``fail`` means
surely not done, ``info`` that nobody knows.

Operations lie in columns of 64-bit numbers, so that ten million of them fit in memory.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from raftmq.chaos.group_events import Group
    from raftmq.chaos.queue_events import Queue

FOREIGN = -1
"""The value of bytes that no workload wrote."""
NEVER = 2**62
"""The time at which an operation returned that did not."""


class Outcome(IntEnum):
    INFO = 0
    OK = 1
    FAIL = 2


class Numbers:
    """Names as small numbers, in the order of their first use."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._numbers: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.names)

    def of(self, name: str) -> int:
        number = self._numbers.get(name)
        if number is None:
            number = self._numbers[name] = len(self.names)
            self.names.append(name)
        return number


def _column() -> array[int]:
    return array("q")


@dataclass(slots=True)
class Sends:
    """One row a record, in the order of their invocation; ``offset`` and ``epoch`` are -1 where they were not told."""

    op: array[int] = field(default_factory=_column)
    client: array[int] = field(default_factory=_column)
    partition: array[int] = field(default_factory=_column)
    value: array[int] = field(default_factory=_column)
    invoked: array[int] = field(default_factory=_column)
    returned: array[int] = field(default_factory=_column)
    outcome: array[int] = field(default_factory=_column)
    offset: array[int] = field(default_factory=_column)
    epoch: array[int] = field(default_factory=_column)

    def __len__(self) -> int:
        return len(self.op)


@dataclass(slots=True)
class Polls:
    """One row a record that a consumer was given, in the order of time. ``reader``: one session of one client."""

    reader: array[int] = field(default_factory=_column)
    partition: array[int] = field(default_factory=_column)
    time: array[int] = field(default_factory=_column)
    offset: array[int] = field(default_factory=_column)
    value: array[int] = field(default_factory=_column)
    epoch: array[int] = field(default_factory=_column)

    def __len__(self) -> int:
        return len(self.offset)


@dataclass(slots=True)
class FinalLog:
    """All of one partition, read when everything was quiet; the rows in the order in which they came."""

    start: int = 0
    high_watermark: int = 0
    offset: array[int] = field(default_factory=_column)
    value: array[int] = field(default_factory=_column)
    epoch: array[int] = field(default_factory=_column)

    def at(self, offset: int) -> int | None:
        """The value at an offset; None where there is none."""
        place = offset - self.offset[0] if self.offset else -1
        if not (0 <= place < len(self.offset) and self.offset[place] == offset):
            place = bisect_left(self.offset, offset)
            if place == len(self.offset) or self.offset[place] != offset:
                return None
        return self.value[place]

    def rows(self) -> Iterator[tuple[int, int, int]]:
        """(offset, value, epoch) of each record."""
        return zip(self.offset, self.value, self.epoch, strict=True)


class Latest(NamedTuple):
    invoked: int
    returned: int
    partition: int
    log_start: int
    high_watermark: int


@dataclass(slots=True)
class TopicOperation:
    action: str
    topic: str
    invoked: int
    returned: int = NEVER
    outcome: Outcome = Outcome.INFO
    topics: Mapping[str, int] = field(default_factory=dict)
    """Name to id of what a successful operation told: of a list all, of a creation its own."""
    error: str = ""


class Observation(NamedTuple):
    """What one node said of the groups that it leads: partition to (term, high watermark, group)."""

    time: int
    node: int
    leads: Mapping[str, Sequence[int]]


class Below(NamedTuple):
    """What a reader was told that asked for an offset below the start of the log."""

    partition: str
    offset: int
    start: int
    told: str


class Replica(NamedTuple):
    node: int
    partition: str
    log_index: int
    chain: str
    end: int


class TopicLayout(NamedTuple):
    topic_id: int
    factor: int
    replicas: tuple[tuple[int, ...], ...]


class Metadata(NamedTuple):
    """What one node's process said of the cluster."""

    time: int
    node: int
    process: int
    boot: int
    version: int
    nodes: tuple[int, ...]
    topics: Mapping[str, TopicLayout]
    is_last: bool


class Resources(NamedTuple):
    """Of one node's process: the first of them before the faults, the last when all was quiet."""

    node: int
    threads: int
    files: int
    memory_bytes: int


class Strain(NamedTuple):
    """How busy the machine was in the second before: by how much the experiment's own timer came late at most, and for
    how long the main thread of that node which fared worst waited for a processor. Microseconds.
    """

    time: int
    lag: int
    waited: int


class Window(NamedTuple):
    """A fault, in microseconds. ``healed`` is NEVER where the run was broken off."""

    name: str
    injected: int
    healed: int


@dataclass
class History:
    partitions: Numbers = field(default_factory=Numbers)
    clients: Numbers = field(default_factory=Numbers)
    readers: Numbers = field(default_factory=Numbers)
    idempotent: set[int] = field(default_factory=set)
    """Clients whose retries are never duplicates."""
    fences: dict[int, tuple[str, int]] = field(default_factory=dict)
    """Clients that share a producer id with others: its name, and their epoch of it."""
    sends: Sends = field(default_factory=Sends)
    polls: Polls = field(default_factory=Polls)
    latest: list[Latest] = field(default_factory=list)
    topics: list[TopicOperation] = field(default_factory=list)
    observations: list[Observation] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)
    final: dict[int, FinalLog] = field(default_factory=dict)
    replicas: list[Replica] = field(default_factory=list)
    below: list[Below] = field(default_factory=list)
    metadata: list[Metadata] = field(default_factory=list)
    resources: list[Resources] = field(default_factory=list)
    strain: list[Strain] = field(default_factory=list)
    queues: dict[str, Queue] = field(default_factory=dict)
    groups: dict[str, Group] = field(default_factory=dict)
    amiss: list[str] = field(default_factory=list)
    """What should never be, and no operation shows: a node that ended by itself, a log that cannot be read."""
    late: list[str] = field(default_factory=list)
    """The same of what took too long."""
    broken: list[str] = field(default_factory=list)
    """Why the run ended before its end: the last reading, at least, is not there."""
    events: int = 0
    """Records sent, polled and read at the end, and all other lines."""
    end: int = 0
    """The time of the last line."""

    @cached_property
    def row_of(self) -> array[int]:
        """By value: its row in ``sends``, -1 where it was never sent. Ask by `sent_row`."""
        rows = array("q", [-1]) * (max(self.sends.value, default=0) + 1)
        for row, value in enumerate(self.sends.value):
            rows[value] = row
        return rows

    def sent_row(self, value: int) -> int:
        """The row in ``sends`` of a value; -1 where nobody sent it."""
        return self.row_of[value] if 0 <= value < len(self.row_of) else -1

    def stalled_s(self, begin: int, end: int) -> float:
        """For how many seconds between two moments the machine gave somebody no processor."""
        return sum(max(one.lag, one.waited) for one in self.strain if begin <= one.time <= end + 1_000_000) / 1e6

    def name(self, partition: int) -> str:
        return self.partitions.names[partition]
