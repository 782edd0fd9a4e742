"""What members of a consumer group did, as JSON lines: written by ``workloads/group``, judged by the checks.

Kinds of lines, beside those of ``history``::

    {"f": "owns", "group": "readers", "member": "5f..", "epoch": 4, "partitions": ["records/0"]}   it may read
    {"f": "given", "group": ..., "member": ..., "partition": "records/0", "offset": 7, "next": 12}   up to 11
    {"f": "commit", "type": "invoke", "op": 9, "group": ..., "member": ..., "epoch": 4, "offsets": {"records/0": 12}}
    {"f": "commit", "type": "ok" | "fail" | "info", "op": 9, "refused": {"records/1": "STALE_MEMBER"}, "error": ...}
    {"f": "committed", "type": "invoke" | "ok" | "fail", "op": 10, "group": ..., "offsets": {"records/0": 12}}   asked

A partition that an answer leaves out has no committed offset.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from raftmq.chaos.history import NEVER, Outcome

NOTHING = -1
"""The committed offset of a partition that has none."""


class Ownership(NamedTuple):
    """From when on a member was told that it may read a partition."""

    time: int
    member: str
    epoch: int
    partition: str


class Given(NamedTuple):
    time: int
    member: str
    partition: str
    offset: int
    next_offset: int


@dataclass(slots=True)
class Commit:
    """Of one partition."""

    member: str
    epoch: int
    partition: str
    offset: int
    invoked: int
    returned: int = NEVER
    outcome: Outcome = Outcome.INFO


class Read(NamedTuple):
    """What was told to be committed."""

    invoked: int
    returned: int
    offsets: Mapping[str, int]


@dataclass
class Group:
    """One consumer group; everything in the order of time."""

    name: str
    owned: list[Ownership] = field(default_factory=list)
    given: list[Given] = field(default_factory=list)
    commits: list[Commit] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)

    @cached_property
    def partitions(self) -> list[str]:
        return sorted({one.partition for one in self.owned} | {one.partition for one in self.commits})

    def commits_of(self, partition: str, *outcomes: Outcome) -> list[Commit]:
        return [one for one in self.commits if one.partition == partition and one.outcome in outcomes]

    def reads_of(self, partition: str) -> list[tuple[Read, int]]:
        return [(one, one.offsets.get(partition, NOTHING)) for one in self.reads]


class GroupReader:
    """Takes the lines of consumer groups."""

    def __init__(self, groups: dict[str, Group]) -> None:
        self._groups = groups
        self._commits: dict[int, dict[str, Commit]] = {}
        self._reads: dict[int, int] = {}

    def kinds(self) -> Iterator[tuple[str, Any]]:
        yield "owns", self._owns
        yield "given", self._given
        yield "commit", self._commit
        yield "committed", self._committed

    def _group(self, event: Mapping[str, Any]) -> Group:
        name = event["group"]
        return self._groups.setdefault(name, Group(name))

    def _owns(self, event: Mapping[str, Any]) -> None:
        owned = self._group(event).owned
        owned += [Ownership(event["t"], event["member"], event["epoch"], name) for name in event["partitions"]]

    def _given(self, event: Mapping[str, Any]) -> None:
        self._group(event).given.append(
            Given(event["t"], event["member"], event["partition"], event["offset"], event["next"])
        )

    def _commit(self, event: Mapping[str, Any]) -> None:
        if event["type"] == "invoke":
            made = {
                name: Commit(event["member"], event["epoch"], name, offset, event["t"])
                for name, offset in event["offsets"].items()
            }
            self._commits[event["op"]] = made
            self._group(event).commits += made.values()
            return
        refused = event.get("refused", {})
        for name, commit in self._commits.pop(event["op"]).items():
            commit.returned = event["t"]
            commit.outcome = Outcome.FAIL if name in refused else Outcome[event["type"].upper()]

    def _committed(self, event: Mapping[str, Any]) -> None:
        if event["type"] == "invoke":
            self._reads[event["op"]] = event["t"]
            return
        invoked = self._reads.pop(event["op"])
        if event["type"] == "ok":
            self._group(event).reads.append(Read(invoked, event["t"], event["offsets"]))
