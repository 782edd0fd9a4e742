"""C2: names and numbers of topics and groups are given once: of racing creations one wins, and no id comes again, not
even after a deletion. Whoever was told that it created a topic did. No exception."""

from __future__ import annotations

from raftmq.ids import CONTROLLER_GROUP, LogIndex
from raftmq.metadata import events
from raftmq.raft.types import EntryKind
from raftmq.sim.invariants.base import Final, Invariant, Sight


class Topics(Invariant):
    name = "C2 topics"
    sees_only_changes = True

    def __init__(self) -> None:
        self._topics: dict[int, tuple[LogIndex, str]] = {}
        self._groups: dict[int, LogIndex] = {}
        self._done: dict[int, LogIndex] = {}

    def saw(self, sight: Sight) -> None:
        if sight.group_id != CONTROLLER_GROUP:
            return
        done = self._done.get(sight.process.number, 0)
        group = sight.group
        for index in range(max(done + 1, group.row.raft_start), sight.commit + 1):
            entry = group.entry(LogIndex(index)) or sight.node.store.peek(group.generation, LogIndex(index))
            if entry.kind is not EntryKind.COMMAND:
                continue
            for event in events.decode(entry.inline, entry.version):
                if isinstance(event, events.TopicCreated):
                    self._created(event, entry.index)
        self._done[sight.process.number] = max(sight.commit, LogIndex(done))

    def _created(self, event: events.TopicCreated, index: LogIndex) -> None:
        first = self._topics.setdefault(event.topic_id, (index, event.name))
        self.require(first == (index, event.name), f"topic id {event.topic_id} is {event.name} at {index}, was {first}")
        for partition in event.partitions:
            at = self._groups.setdefault(partition.group, index)
            self.require(at == index, f"group {partition.group} is created at {index}, and was at {at}")

    def final(self, final: Final) -> None:
        for topic_id, who in final.oracle.topics_created.items():
            self.require(topic_id in self._topics, f"{who} was told of topic id {topic_id}, which was never created")
