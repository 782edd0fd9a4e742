"""Who was heard when: the sessions of members, on the node that coordinates them. Nothing of it is written.

A coordinator that has only just been elected has heard nobody. It gives every member a whole session, and some more:
the coordinator before it may have answered a member a moment longer than it should have.

Who is taken for dead is *condemned* until its expiry is decided: what it has is free the moment that this is committed,
so it must not be told meanwhile that all is well, and go on for another session. That is why a member that does not
give up what it is asked for is not expired at once, but told nothing more until its session is over: what it was told
last holds until then. Pure: time comes in.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from raftmq.groups.machine import GroupsMachine
from raftmq.ids import Term, Tick

GRACE_MS = 5_000
"""Longer than a leader that was cut off goes on believing in itself."""


@dataclass(slots=True)
class _Session:
    heard: Tick
    deadline: Tick
    revoking_since: Tick | None = None
    """It has something to give up since then."""


class Sessions:
    """Of the members of one Raft group's consumer groups, in one term."""

    def __init__(self, term: Term, machine: GroupsMachine, now: Tick, grace_ms: int = GRACE_MS) -> None:
        self.term = term
        self._machine = machine
        self._of: dict[tuple[str, str], _Session] = {}
        self._condemned: dict[tuple[str, str], str] = {}
        """And why."""
        for name, member_id, timeout_ms in self._members():
            self._of[name, member_id] = _Session(now, Tick(now + timeout_ms + grace_ms))

    def heard(self, name: str, member_id: str, timeout_ms: int, now: Tick) -> None:
        """The member has called."""
        session = self._of.get((name, member_id))
        if session is None:
            self._of[name, member_id] = _Session(now, Tick(now + timeout_ms))
        else:
            session.heard, session.deadline = now, Tick(max(session.deadline, now + timeout_ms))

    def is_condemned(self, name: str, member_id: str) -> bool:
        """The member was taken for dead, and may be dead by now for all that is known."""
        return (name, member_id) in self._condemned

    def decided(self, name: str, member_id: str) -> None:
        """The expiry of the member has come to its end: whoever goes by that id now has joined since."""
        self._condemned.pop((name, member_id), None)
        self._of.pop((name, member_id), None)

    def silence(self, name: str, member_id: str, now: Tick) -> int:
        """Milliseconds since the member was heard, or since this coordinator began."""
        session = self._of.get((name, member_id))
        return 0 if session is None else now - session.heard

    def lapsed(self, now: Tick) -> list[tuple[str, str, str]]:
        """(group, member, why) of those that are to be taken for dead. Tells the same again until that is decided."""
        found: list[tuple[str, str, str]] = []
        condemned = self._condemned
        present = set()
        for name, member_id, timeout_ms in self._members():
            key = (name, member_id)
            present.add(key)
            session = self._of.setdefault(key, _Session(now, Tick(now + timeout_ms)))
            group = self._machine.groups[name]
            if not group.revoking(member_id):
                session.revoking_since = None
            elif session.revoking_since is None:
                session.revoking_since = now
            patience_ms = group.members[member_id].rebalance_timeout_ms
            if session.revoking_since is not None and session.revoking_since + patience_ms <= now:
                condemned.setdefault(key, f"did not give up partitions for {patience_ms} ms")
            if session.deadline <= now:
                condemned.setdefault(key, f"not heard for {now - session.heard} ms")
                found.append((name, member_id, condemned[key]))
        for gone in self._of.keys() - present:
            del self._of[gone]
        self._condemned = {key: why for key, why in condemned.items() if key in present}
        return found

    def _members(self) -> Iterable[tuple[str, str, int]]:
        for name, group in self._machine.groups.items():
            for member_id, member in group.members.items():
                yield name, member_id, member.session_timeout_ms
