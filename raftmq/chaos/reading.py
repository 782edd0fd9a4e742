"""Reads a history: what its lines mean stands in history.py."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raftmq.chaos.group_events import GroupReader
from raftmq.chaos.history import (
    NEVER,
    Below,
    FinalLog,
    History,
    Latest,
    Metadata,
    Observation,
    Outcome,
    Replica,
    Resources,
    Strain,
    TopicLayout,
    TopicOperation,
    Window,
)
from raftmq.chaos.queue_events import QueueReader


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
            "end": self._end, "replica": self._replica, "amiss": self._amiss, "metadata": self._metadata,
            "resources": self._resources, "machine": self._machine, "below": self._below,
            "broken": self._broken,
            **dict(QueueReader(self.history.queues).kinds()),
            **dict(GroupReader(self.history.groups).kinds()),
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
            # By now it is known which nodes were hit.
            windows[place] = windows[place]._replace(healed=event["t"], name=event.get("name", windows[place].name))

    def _amiss(self, event: Mapping[str, Any]) -> None:
        (self.history.late if event.get("late") else self.history.amiss).append(event["message"])

    def _broken(self, event: Mapping[str, Any]) -> None:
        self.history.broken.append(event["message"])

    def _metadata(self, event: Mapping[str, Any]) -> None:
        topics = {
            name: TopicLayout(identity, factor, tuple(tuple(replicas) for replicas in partitions))
            for name, (identity, factor, partitions) in event["topics"].items()
        }
        known = event["t"], event["node"], event["pid"], event["boot"], event["version"], tuple(event["nodes"])
        self.history.metadata.append(Metadata(*known, topics, event["last"]))

    def _resources(self, event: Mapping[str, Any]) -> None:
        self.history.resources.append(Resources(event["node"], event["threads"], event["files"], event["memory"]))

    def _machine(self, event: Mapping[str, Any]) -> None:
        self.history.strain.append(Strain(event["t"], event["lag"], max(event["waited"].values(), default=0)))

    def _below(self, event: Mapping[str, Any]) -> None:
        self.history.below.append(Below(event["partition"], event["offset"], event["start"], event["told"]))

    def _replica(self, event: Mapping[str, Any]) -> None:
        self.history.replicas.append(
            Replica(event["node"], event["partition"], event["index"], event["chain"], event["end"])
        )
