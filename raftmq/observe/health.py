"""What a node says of its health, and why. Pure: from a picture of the node to a verdict.

*Live* means that a restart would not help; *ready* that clients are served well here. A node without a quorum around it
is live and not ready: restarting it would only make things worse.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from raftmq.ports import DiskLevel

SYNC_PATIENCE_S = 10.0
"""A write or sync that takes longer means that the disk hangs: nothing is acknowledged here meanwhile."""

_ROOM = {
    DiskLevel.AMPLE: "enough on the disk",
    DiskLevel.LOW: "LOW: no records are taken here until there is more",
    DiskLevel.FULL: "NONE: records are neither taken nor replicated here until there is some",
}


@dataclass(frozen=True, slots=True)
class NodeState:
    """How far a node has come."""

    disk_open: bool = False
    formed: bool = False
    waiting: str = ""
    """Why it has not formed a cluster yet, where that is known."""
    replicas_open: bool = False
    controller: int | None = None
    """The node that leads the controller, as far as this one knows."""
    removed: bool = False
    """An operator has removed this node from the cluster."""
    serving: bool = False
    """Listens for clients."""
    stopping: bool = False
    failure: str = ""
    """The disk failed, or an invariant: the process is about to end."""
    busy_s: float = 0.0
    """How long the write or sync under way has taken so far."""
    disk: DiskLevel = DiskLevel.AMPLE


@dataclass(frozen=True, slots=True)
class Verdict:
    """``findings``: (what was looked at, whether it is well, what there is to say), in the order of a start."""

    findings: tuple[tuple[str, bool, str], ...]

    @property
    def is_well(self) -> bool:
        return all(well for _, well, _ in self.findings)

    def __str__(self) -> str:
        """A line for each finding, the verdict last."""
        lines = [f"[{'+' if well else '-'}] {name}: {said}" for name, well, said in self.findings]
        return "\n".join([*lines, "ok" if self.is_well else "not ok", ""])


def live(state: NodeState) -> Verdict:
    """For /healthz. That it can be asked at all shows that the event loop runs."""
    return Verdict((("process", not state.failure, state.failure or "runs"),))


def ready(state: NodeState) -> Verdict:
    """For /readyz."""
    return Verdict((*live(state).findings, *_readiness(state)))


def _readiness(state: NodeState) -> Iterator[tuple[str, bool, str]]:
    yield "disk", state.disk_open, "open" if state.disk_open else "not open yet"
    why = f"not in a cluster yet{': ' if state.waiting else ''}{state.waiting}"
    removed = "this node was removed: stop it, or empty its data directory and add it anew"
    said = removed if state.removed else "formed" if state.formed else why
    yield "cluster", state.formed and not state.removed, said
    yield "replicas", state.replicas_open, "open" if state.replicas_open else "not open yet"
    known = state.controller is not None
    yield "controller", known, f"led by node {state.controller}" if known else "this node knows no leader of it"
    hangs = state.busy_s > SYNC_PATIENCE_S
    yield "writes", not hangs, f"the disk has not answered for {state.busy_s:.0f} s" if hangs else "come through"
    # No reason to send clients away: they can read, which may be what makes room, and elsewhere it may be no better.
    yield "room", True, _ROOM[state.disk]
    if state.stopping:
        yield "clients", False, "the node is stopping"
    else:
        yield "clients", state.serving, "served" if state.serving else "not served yet"
