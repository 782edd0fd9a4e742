"""Refusals of the consensus core. Each one means: nothing was changed.

RaftRefusal
├── NotLeader            ask the leader (or wait: leadership is being handed over)
├── TooMuchUncommitted   the quorum is gone or slow: back off
├── MembershipRefused    a change is under way, or the target makes no sense
└── TransferRefused      the target may not lead
"""

from __future__ import annotations


class RaftRefusal(Exception):
    """Base of everything that ``RaftNode`` refuses to do."""


class NotLeader(RaftRefusal):
    """This replica does not lead, or is handing its leadership over."""


class TooMuchUncommitted(RaftRefusal):
    """Accepting the entry would hold more than ``max_uncommitted_bytes`` that no quorum has confirmed."""


class MembershipRefused(RaftRefusal):
    """The configuration cannot be changed to the target, or not now."""


class TransferRefused(RaftRefusal):
    """The target is unknown, a learner, suspect, or this replica itself."""
