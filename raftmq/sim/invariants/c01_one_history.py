"""C1: the metadata that a process sees only gets newer, and at one version it is the same on every node. No
exception."""

from __future__ import annotations

from raftmq.ids import CONTROLLER_GROUP, LogIndex
from raftmq.metadata.machine import MetadataMachine
from raftmq.sim.invariants.base import Invariant, Sight


class OneHistory(Invariant):
    name = "C1 one history of metadata"
    sees_only_changes = True

    def __init__(self) -> None:
        self._digests: dict[LogIndex, str] = {}
        self._seen: dict[str, LogIndex] = {}

    def saw(self, sight: Sight) -> None:
        if sight.group_id != CONTROLLER_GROUP or not isinstance(sight.group.machine, MetadataMachine):
            return
        image = sight.group.machine.image
        seen = self._seen.get(sight.process.name, LogIndex(-1))
        if image.version == seen:
            return
        self.require(image.version > seen, f"{sight.process.name}: version {seen} -> {image.version}")
        self._seen[sight.process.name] = image.version
        digest = image.digest()
        first = self._digests.setdefault(image.version, digest)
        self.require(first == digest, f"{sight.process.name} has other metadata at version {image.version}")
