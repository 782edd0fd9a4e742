"""Histories made by hand: a good one, and what it takes to make it bad."""

from __future__ import annotations

from typing import Any

from raftmq.chaos.checks import all_checks
from raftmq.chaos.checks.findings import Findings
from raftmq.chaos.checks.liveness import Bounds
from raftmq.chaos.reading import of

P = "records/0"
Events = list[dict[str, Any]]


def client(name: str, *, idempotent: bool = True, **fields: Any) -> Events:
    return [{"t": 0, "f": "client", "client": name, "idempotent": idempotent, **fields}]


def send(
    op: int, *values: int, t: int, until: int, outcome: str = "ok", offset: int = -1, epoch: int = 1, by: str = "a",
    partition: str = P,
) -> Events:  # fmt: skip
    """A send from `t` to `until`; its events have to be put in the order of time."""
    ended: dict[str, Any] = {"t": until, "f": "send", "type": outcome, "op": op}
    if outcome == "ok":
        ended |= {"offset": offset, "epoch": epoch}
    return [
        {"t": t, "f": "send", "type": "invoke", "op": op, "client": by, "partition": partition, "values": list(values)},
        ended,
    ]


def poll(offset: int, *values: int, t: int, epoch: int = 1, session: int = 1, by: str = "c") -> Events:
    return [
        {"t": t, "f": "poll", "client": by, "session": session, "partition": P, "offset": offset, "epoch": epoch,
         "values": list(values)}
    ]  # fmt: skip


def latest(op: int, end: int, *, t: int, until: int, start: int = 0) -> Events:
    return [
        {"t": t, "f": "latest", "type": "invoke", "op": op},
        {"t": until, "f": "latest", "type": "ok", "op": op, "bounds": {P: [start, end]}},
    ]


def final(*values: int, offset: int = 0, epoch: int = 1, start: int = 0, end: int | None = None) -> Events:
    high_watermark = offset + len(values) if end is None else end
    return [
        {"t": 900, "f": "end", "partition": P, "start": start, "high_watermark": high_watermark},
        {"t": 901, "f": "final", "partition": P, "offset": offset, "epoch": epoch, "values": list(values)},
    ]


def replica(node: int, index: int, chain: str, end: int, partition: str = P) -> Events:
    return [
        {"t": 950, "f": "replica", "node": node, "partition": partition, "index": index, "chain": chain, "end": end}
    ]


def observe(node: int, t: int, *, term: int, group: int = 1) -> Events:
    return [{"t": t, "f": "observe", "node": node, "leads": {P: [term, 0, group]}}]


def topic(op: int, action: str, name: str, *, t: int, until: int, outcome: str = "ok", **topics: int) -> Events:
    return [
        {"t": t, "f": "topic", "type": "invoke", "op": op, "action": action, "topic": name},
        {"t": until, "f": "topic", "type": outcome, "op": op, "topics": topics},
    ]


def metadata(
    node: int, t: int, *, version: int = 5, pid: int = 0, boot: int = 1, factor: int = 2, last: bool = False,
    replicas: tuple[int, ...] = (1, 2), nodes: tuple[int, ...] = (1, 2, 3),
) -> Events:  # fmt: skip
    return [
        {"t": t, "f": "metadata", "node": node, "pid": pid or 100 * node + boot, "boot": boot, "version": version,
         "last": last, "nodes": list(nodes), "topics": {"records": [4, factor, [list(replicas)]]}}
    ]  # fmt: skip


def resources(node: int, t: int, *, threads: int = 20, files: int = 50, memory: int = 90_000_000) -> Events:
    return [{"t": t, "f": "resources", "node": node, "threads": threads, "files": files, "memory": memory}]


def machine(t: int, *, lag: int = 0, waited: int = 0) -> Events:
    return [{"t": t, "f": "machine", "lag": lag, "waited": {"77": waited}}]


def fault(t: int, until: int) -> Events:
    return [
        {"t": t, "f": "fault", "type": "inject", "fault": 0, "name": "kill node 1"},
        {"t": until, "f": "fault", "type": "heal", "fault": 0},
    ]


def history(*parts: Events) -> Events:
    """In the order of time; what has one time stays in the order in which it is given."""
    return sorted((event for part in parts for event in part), key=lambda event: event["t"])


def run(check: str, *parts: Events, bounds: Bounds | None = None) -> Findings:
    """What a check finds in a history."""
    (found,) = (one for one in all_checks(bounds or Bounds()) if one.name == check)
    return found.run(of(history(*parts)))


def good() -> tuple[Events, ...]:
    """Two producers, one of them with a batch; a consumer; questions; two leaders; two replicas."""
    return (
        client("a"),
        client("b"),
        send(1, 10, t=10, until=20, offset=0),
        send(2, 11, 12, t=15, until=30, offset=1, by="b"),
        latest(3, 3, t=35, until=40),
        observe(1, 45, term=1),
        send(4, 13, t=50, until=60, outcome="info"),
        send(5, 14, t=65, until=70, outcome="fail", by="b"),
        poll(0, 10, 11, 12, t=75),
        metadata(1, 76),
        metadata(2, 77),
        resources(1, 78),
        machine(79),
        fault(80, 90),
        send(8, 16, t=85, until=88, outcome="fail"),
        observe(2, 95, term=2),
        metadata(1, 96, version=6, boot=2),
        send(6, 15, t=100, until=110, offset=4, epoch=2),
        latest(7, 5, t=115, until=120),
        poll(3, 13, t=130),
        poll(4, 15, t=131, epoch=2),
        final(10, 11, 12, 13),
        [{"t": 902, "f": "final", "partition": P, "offset": 4, "epoch": 2, "values": [15]},
         {"t": 903, "f": "end", "partition": P, "start": 0, "high_watermark": 5}],
        metadata(1, 904, version=6, boot=2, last=True),
        metadata(2, 905, version=6, last=True),
        replica(1, 9, "ab", 5),
        replica(2, 9, "ab", 5),
        resources(1, 960, threads=24),
    )  # fmt: skip
