"""What an invariant can look at, and when it is asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, NoReturn

from raftmq.ids import Generation, GroupId, LogIndex, NodeId, Term
from raftmq.raft.messages import Message
from raftmq.raft.types import Role
from raftmq.records.entry import LogEntry
from raftmq.replica.group import ReplicaGroup
from raftmq.sim.depth import DepthPlan
from raftmq.sim.letters import Letter, LetterOf
from raftmq.sim.oracle import Operation, Oracle, Partition
from raftmq.sim.queue_truth import Judged

if TYPE_CHECKING:
    from raftmq.sim.node import NodeProcess, SimNode


class Violated(AssertionError):
    """An invariant does not hold."""


@dataclass(slots=True)
class Sight:
    """One replica after a turn of its process, with what was seen of it the turn before."""

    node: SimNode
    process: NodeProcess
    group: ReplicaGroup
    role: Role
    term: Term
    last: LogIndex
    commit: LogIndex
    is_suspect: bool
    before: Sight | None
    chains: list[bytes]
    """Chain hash by log index; [0] is the hash before the first entry."""
    terms: list[Term]
    start: LogIndex
    """First entry that is on its disk; ``chains`` and ``terms`` go back to the beginning all the same."""
    generation: Generation
    kept: LogIndex = LogIndex(0)
    """Up to here the log is as it was the turn before."""
    entries: tuple[LogEntry, ...] = ()
    """New since then: after ``kept``, up to ``last``."""
    shown: tuple[object, ...] = ()
    """All that was looked at, in a form that tells whether anything has changed."""

    @property
    def group_id(self) -> GroupId:
        return self.group.id

    @property
    def was_leader(self) -> bool:
        """It led the same term the turn before."""
        return self.before is not None and self.before.role is Role.LEADER and self.before.term == self.term


@dataclass(slots=True)
class Final:
    """The cluster at the end: healed, quiet, and read through once more."""

    nodes: list[SimNode]
    oracle: Oracle
    read: dict[Partition, list[tuple[int, bytes, int]]] = field(default_factory=dict)
    """(offset, value, leader epoch) of everything that a client could read, behind what was removed."""
    logs: dict[Partition, list[list[LogEntry]]] = field(default_factory=dict)
    """Every replica's log, behind what was removed."""
    starts: dict[Partition, int] = field(default_factory=dict)
    """First offset that could still be read."""
    queues: list[Judged] = field(default_factory=list)
    """What became of every queue group."""
    letters: dict[LetterOf, list[Letter]] = field(default_factory=dict)
    """What stands in the topic of dead letters."""
    depth: DepthPlan | None = None
    refused: int = 0
    """Records, by the count of all nodes, for which there was no room."""
    calls_refused: int = 0
    """Calls that were told so, on each of at most two ways: from the leader to another node, and from there on."""
    dropped: int = 0
    """Records that gave way by the topic's own policy, by that count."""
    forgets: bool = False
    """Records may go for other reasons, too."""
    may_lease_end_early: bool = False
    """Some node's clock ran faster than that of the workers."""


class Invariant:
    """One property. Each method is a moment at which it is asked; a subclass overrides the ones it needs and raises
    ``Violated``. ``name`` is how a failure is called."""

    name: ClassVar[str] = ""
    sees_only_changes: ClassVar[bool] = False
    """``saw`` goes by what a replica shows of itself: its log, row and applied state, and whom it takes for its leader
    (see ``checker``). Then it need not be asked again before any of that is another. By default it is asked whenever
    something happened to the replica."""

    def saw(self, sight: Sight) -> None:
        """A replica may have changed."""

    def booted(self, process: NodeProcess) -> None:
        """A process has started, and its replicas have been read from disk."""

    def sent(self, process: NodeProcess, group: GroupId, message: Message) -> None:
        """A message leaves a node."""

    def ended(self, operation: Operation) -> None:
        """A client's operation has ended."""

    def full(self, nodes: dict[NodeId, SimNode], oracle: Oracle) -> None:
        """Every 256 steps, and at the end: look at everything."""

    def final(self, final: Final) -> None:
        """The run is over."""

    def require(self, condition: object, what: str) -> None:
        """Raise Violated unless `condition`."""
        if not condition:
            self.violated(what)

    def violated(self, what: str) -> NoReturn:
        """For what is looked at all the time: words for a failure cost more than to see that there is none."""
        raise Violated(f"{self.name}: {what}")
