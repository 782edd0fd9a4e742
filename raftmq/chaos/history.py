"""What happened in a run, as JSON lines: written by the workloads, read by the checks.

Every line has ``t``, microseconds since the run began, by one clock that never goes back. Kinds of lines::

    {"f": "client", "client": "producer-1", "idempotent": true}             before a client's first operation
    {"f": "send", "type": "invoke", "op": 7, "client": ..., "partition": "records/0", "values": [12, 13]}
    {"f": "send", "type": "ok", "op": 7, "offset": 40, "epoch": 3, "duplicate": false}
    {"f": "send", "type": "fail" | "info", "op": 7, "error": "NO_LEADER"}
    {"f": "poll", "client": ..., "session": 1, "partition": ..., "offset": 40, "epoch": 3, "values": [12, 13]}
    {"f": "latest", "type": "invoke" | "ok" | "fail", "op": 8, "bounds": {"records/0": [start, high_watermark]}}
    {"f": "topic", "type": ..., "op": 9, "action": "create" | "delete" | "list", "topic": ..., "topics": {name: id}}
    {"f": "observe", "node": 1, "leads": {"records/0": [term, high_watermark, group]}}
    {"f": "fault", "type": "inject" | "heal", "fault": 2, "name": "kill leader"}
    {"f": "final", "partition": ..., "offset": 0, "epoch": 1, "values": [...]}    the log after the run, in order
    {"f": "end", "partition": ..., "start": 0, "high_watermark": 812}             its bounds, asked before it was read
    {"f": "replica", "node": 1, "partition": ..., "index": 900, "chain": "9f..", "end": 812}
    {"f": "amiss", "message": ...}                             what should never be, and no operation shows

A value is a number that is used once in the whole run; -1 stands for bytes that no workload wrote. ``fail`` means
surely not done, ``info`` that nobody knows.

Operations lie in columns of 64-bit numbers, so that ten million of them fit in memory.
"""

from __future__ import annotations

import json
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

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


class Replica(NamedTuple):
    node: int
    partition: str
    log_index: int
    chain: str
    end: int


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
    amiss: list[str] = field(default_factory=list)
    """What should never be, and no operation shows: a node that ended by itself, a log that cannot be read."""
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

    def name(self, partition: int) -> str:
        return self.partitions.names[partition]


def load(path: Path) -> History:
    """Read a history. A last line that was cut off is left out. Raises OSError, and ValueError naming the line."""
    reader = _Reader()
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith("\n"):
                break
            try:
                reader.take(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{path}, line {number} is no event: {error!r}") from error
    return reader.history


def of(lines: Sequence[Mapping[str, Any]]) -> History:
    """The history of some events, as `load` would read it: for tests of the checks."""
    reader = _Reader()
    for line in lines:
        reader.take(line)
    return reader.history


class _Reader:
    def __init__(self) -> None:
        self.history = History()
        self._rows: dict[int, range] = {}
        """Sends under way: their rows."""
        self._latest: dict[int, int] = {}
        self._topics: dict[int, TopicOperation] = {}
        self._faults: dict[int, int] = {}
        self._take = {
            "client": self._client, "send": self._send, "poll": self._poll, "latest": self._latest_bounds,
            "topic": self._topic, "observe": self._observe, "fault": self._fault, "final": self._final,
            "end": self._end, "replica": self._replica, "amiss": self._amiss,
        }  # fmt: skip

    def take(self, event: Mapping[str, Any]) -> None:
        history = self.history
        history.events += 1
        history.end = max(history.end, event["t"])
        take = self._take.get(event["f"])
        if take is not None:  # a later version may write more than this one reads
            take(event)

    def _client(self, event: Mapping[str, Any]) -> None:
        client = self.history.clients.of(event["client"])
        if event.get("idempotent"):
            self.history.idempotent.add(client)
        if "producer" in event:
            self.history.fences[client] = (event["producer"], event["epoch"])

    def _send(self, event: Mapping[str, Any]) -> None:
        sends = self.history.sends
        if event["type"] == "invoke":
            values = event["values"]
            count, first = len(values), len(sends)
            for column, number in (
                (sends.op, event["op"]),
                (sends.client, self.history.clients.of(event["client"])),
                (sends.partition, self.history.partitions.of(event["partition"])),
                (sends.invoked, event["t"]),
                (sends.returned, NEVER),
                (sends.outcome, Outcome.INFO),
                (sends.offset, -1),
                (sends.epoch, -1),
            ):
                column.extend([number] * count)
            sends.value.extend(values)
            self._rows[event["op"]] = range(first, first + count)
            self.history.events += count - 1
            return
        outcome = Outcome[event["type"].upper()]
        offset = event.get("offset", -1)
        for position, row in enumerate(self._rows.pop(event["op"])):
            sends.returned[row] = event["t"]
            sends.outcome[row] = outcome
            sends.epoch[row] = event.get("epoch", -1)
            if offset is not None and offset >= 0:
                sends.offset[row] = offset + position

    def _poll(self, event: Mapping[str, Any]) -> None:
        polls, values = self.history.polls, event["values"]
        count = len(values)
        reader = self.history.readers.of(f"{event['client']} session {event['session']}")
        polls.reader.extend([reader] * count)
        polls.partition.extend([self.history.partitions.of(event["partition"])] * count)
        polls.time.extend([event["t"]] * count)
        polls.offset.extend(range(event["offset"], event["offset"] + count))
        polls.value.extend(values)
        polls.epoch.extend([event["epoch"]] * count)
        self.history.events += count - 1

    def _final(self, event: Mapping[str, Any]) -> None:
        log, values = self._final_of(event["partition"]), event["values"]
        log.offset.extend(range(event["offset"], event["offset"] + len(values)))
        log.value.extend(values)
        log.epoch.extend([event["epoch"]] * len(values))
        self.history.events += len(values) - 1

    def _end(self, event: Mapping[str, Any]) -> None:
        log = self._final_of(event["partition"])
        log.start, log.high_watermark = event["start"], event["high_watermark"]

    def _final_of(self, name: str) -> FinalLog:
        return self.history.final.setdefault(self.history.partitions.of(name), FinalLog())

    def _latest_bounds(self, event: Mapping[str, Any]) -> None:
        if event["type"] == "invoke":
            self._latest[event["op"]] = event["t"]
            return
        invoked = self._latest.pop(event["op"])
        for name, (start, high_watermark) in event.get("bounds", {}).items():
            partition = self.history.partitions.of(name)
            self.history.latest.append(Latest(invoked, event["t"], partition, start, high_watermark))

    def _topic(self, event: Mapping[str, Any]) -> None:
        if event["type"] == "invoke":
            operation = TopicOperation(event["action"], event.get("topic", ""), event["t"])
            self._topics[event["op"]] = operation
            self.history.topics.append(operation)
            return
        operation = self._topics.pop(event["op"])
        operation.returned, operation.outcome = event["t"], Outcome[event["type"].upper()]
        operation.topics, operation.error = event.get("topics", {}), event.get("error", "")

    def _observe(self, event: Mapping[str, Any]) -> None:
        self.history.observations.append(Observation(event["t"], event["node"], event["leads"]))

    def _fault(self, event: Mapping[str, Any]) -> None:
        windows = self.history.windows
        if event["type"] == "inject":
            self._faults[event["fault"]] = len(windows)
            windows.append(Window(event["name"], event["t"], NEVER))
        else:
            place = self._faults.pop(event["fault"])
            windows[place] = windows[place]._replace(healed=event["t"])

    def _amiss(self, event: Mapping[str, Any]) -> None:
        self.history.amiss.append(event["message"])

    def _replica(self, event: Mapping[str, Any]) -> None:
        self.history.replicas.append(
            Replica(event["node"], event["partition"], event["index"], event["chain"], event["end"])
        )
