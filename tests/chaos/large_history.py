"""Makes up what a long run would leave: everything went well, and there is a lot of it.

    python -m tests.chaos.large_history FOLDER 10000000
    raftmq chaos check FOLDER

judges ten million events. Records sent, polled and read at the end count one each.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from raftmq.chaos.experiment import parse
from raftmq.chaos.verdict import EXPERIMENT_FILE, FAULTS_FILE, HISTORY_FILE, RUN_FILE

PARTITIONS, NODES, PRODUCERS, CONSUMERS = 8, 3, 4, 1
STEP_US = 500
"""From one send to the next; each is acknowledged ten later, and read ten after that."""
POLLED_TOGETHER = 64
PLAN = "name: large\nshows: the checks keep up\nfaults: [{fault: kill, target: leader, at: 5}]\n"
FAULT = {
    "fault": 0, "name": "kill node 1", "injected_s": 5.0, "healed_s": 10.0, "fired": True, "violation": "",
    "evidence": {}, "means": "signals",
}  # fmt: skip

Event = dict[str, Any]


def leave(folder: Path, events: int) -> int:
    """Write a run of about so many events into a folder. Returns how many records were sent."""
    folder.mkdir(parents=True, exist_ok=True)
    records = max(1, events // (2 + CONSUMERS))
    (folder / EXPERIMENT_FILE).write_text(parse(PLAN, source="large").model_dump_json())
    (folder / RUN_FILE).write_text('{"seed": 1}')
    (folder / FAULTS_FILE).write_text(json.dumps(FAULT) + "\n")
    with (folder / HISTORY_FILE).open("w") as file:
        for event in history(records):
            file.write(json.dumps(event, separators=(",", ":")) + "\n")
    return records


def history(records: int) -> Iterator[Event]:
    """Lines of a history in the order of time."""
    for producer in range(PRODUCERS):
        yield {"t": 0, "f": "client", "client": f"producer-{producer}", "idempotent": True}
    ends = [0] * PARTITIONS
    unread: list[list[int]] = [[] for _ in range(PARTITIONS)]
    told: list[list[int]] = [[] for _ in range(PARTITIONS)]
    now = 0
    for value in range(1, records + 1):
        now = value * STEP_US
        partition = value % PARTITIONS
        yield {
            "t": now, "f": "send", "type": "invoke", "op": value, "client": f"producer-{value % PRODUCERS}",
            "partition": f"records/{partition}", "values": [value],
        }  # fmt: skip
        yield {"t": now + 9, "f": "send", "type": "ok", "op": value, "offset": ends[partition], "epoch": 1}
        ends[partition] += 1
        unread[partition].append(value)
        told[partition].append(value)
        if len(unread[partition]) == POLLED_TOGETHER:
            yield from _polls(now + 20, partition, ends[partition], unread)
        if value % 500 == 0:
            yield from _told_meanwhile(now + 30, value, ends)
    for partition in range(PARTITIONS):
        yield from _polls(now + 40, partition, ends[partition], unread)
    yield from _last(now + 1_000_000, ends, told)


def _polls(now: int, partition: int, end: int, unread: list[list[int]]) -> Iterator[Event]:
    values, unread[partition] = unread[partition], []
    for consumer in range(CONSUMERS if values else 0):
        yield {
            "t": now, "f": "poll", "client": f"consumer-{consumer}", "session": 1, "partition": f"records/{partition}",
            "offset": end - len(values), "epoch": 1, "values": values,
        }  # fmt: skip


def _told_meanwhile(now: int, number: int, ends: list[int]) -> Iterator[Event]:
    """Questions where the log ends, who leads, what nodes say; the one fault of the run."""
    op = -number
    yield {"t": now, "f": "latest", "type": "invoke", "op": op}
    bounds = {f"records/{p}": [0, end] for p, end in enumerate(ends)}
    yield {"t": now + 5, "f": "latest", "type": "ok", "op": op, "bounds": bounds}
    leads = {name: [1, bound[1], 2 + p] for p, (name, bound) in enumerate(bounds.items())}
    yield {"t": now + 6, "f": "observe", "node": 1, "leads": leads}
    yield {"t": now + 7, "f": "machine", "lag": 900, "waited": {"7": 300}}
    yield from (_metadata(now + 8, node, last=False) for node in range(1, NODES + 1))
    if number == 500:
        yield from ({"t": now + 9, "f": "resources", "node": n, "threads": 30, "files": 70, "memory": 90 << 20}
                    for n in range(1, NODES + 1))  # fmt: skip
        yield {"t": now + 10, "f": "fault", "type": "inject", "fault": 0, "name": "kill node 1"}
    if number == 1000:
        yield {"t": now + 10, "f": "fault", "type": "heal", "fault": 0}


def _metadata(now: int, node: int, *, last: bool) -> Event:
    return {
        "t": now, "f": "metadata", "node": node, "pid": node, "boot": 1, "version": 9, "last": last, "nodes": [1, 2, 3],
        "topics": {"records": [4, 3, [[1, 2, 3]] * PARTITIONS]},
    }  # fmt: skip


def _last(now: int, ends: list[int], told: list[list[int]]) -> Iterator[Event]:
    for partition, end in enumerate(ends):
        name = f"records/{partition}"
        yield {"t": now, "f": "end", "partition": name, "start": 0, "high_watermark": end}
        for begin in range(0, end, POLLED_TOGETHER):
            values = told[partition][begin : begin + POLLED_TOGETHER]
            yield {"t": now, "f": "final", "partition": name, "offset": begin, "epoch": 1, "values": values}
        for node in range(1, NODES + 1):
            yield {"t": now, "f": "replica", "node": node, "partition": name, "index": end, "chain": "ab", "end": end}
    for node in range(1, NODES + 1):
        yield _metadata(now, node, last=True)
        yield {"t": now, "f": "resources", "node": node, "threads": 31, "files": 80, "memory": 120 << 20}


if __name__ == "__main__":
    print(leave(Path(sys.argv[1]), int(sys.argv[2])), "records sent")
