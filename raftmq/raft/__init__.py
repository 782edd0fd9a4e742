"""Consensus for one group of replicas: Raft, as a library without IO.

Nothing in this package reads a clock, opens a file, sends a byte, starts a thread or draws a random number of
its own. Time is an argument (monotonic milliseconds), randomness is an argument, and what is to be done comes out
as values. So a whole cluster runs in one process from one seed, and every rule of the paper is a test.

    messages, time, proposals                         Ready: entries to write, messages to send,
              |                                              what is committed, reads that are confirmed
              v                                                        ^
    +-- RaftNode (node.py) --------------------------------------------|------------------------------+
    |     admission.py   what is looked at at all                      |                              |
    |     voting.py      who gets a vote, in any role                Core (core.py): term, vote,      |
    |     follower.py    candidate.py    leader.py    <-- roles -->  log terms, commit, configuration |
    |                                        |                         |                              |
    |                     replication.py  progress.py  read_index.py   log_terms.py  durability.py    |
    |                                                                  membership.py   quorum.py      |
    +-------------------------------------------------------------------------------------------------+

**The log is not here.** The core knows the *term* of every entry, as a few runs, and nothing else of it. It hands
new entries through once, in a Ready, and later orders "send 17 to 40 to this member"; the host fills the order
from its cache or disk. The core therefore never waits for a read, and costs the same whatever an entry weighs.

**Two kinds of messages.** ``Ready.send_now`` may leave while the disk is busy; ``Ready.send_after_persist`` speaks
for something (a vote, an acknowledgement) that must be durable first. A leader's appends are of the first kind:
its own disk is one voter among others, and counts when ``persisted`` says so.

**The caller's contract** is in ``node.py``. In short: take Readies in order, write each one atomically, send what
waited for it only when it is durable, hand its mark back once, apply what is committed, and never go on after a
failed write.

**Departures from the paper**, and what was tried and dropped, are in the README beside this file, with the
checklist that the tests follow.
"""

from raftmq.raft.config import RaftConfig
from raftmq.raft.errors import MembershipRefused, NotLeader, RaftRefusal, TooMuchUncommitted, TransferRefused
from raftmq.raft.log_terms import LogTerms
from raftmq.raft.messages import (
    AppendEntries,
    AppendOrder,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    Message,
    RequestVote,
    TimeoutNow,
    VoteReply,
)
from raftmq.raft.node import RaftNode
from raftmq.raft.ready import ReadGrant, Ready
from raftmq.raft.types import (
    Entry,
    EntryKind,
    HardState,
    Membership,
    PeerStatus,
    RaftStatus,
    Restored,
    Role,
    SnapshotMeta,
)

__all__ = [
    "AppendEntries",
    "AppendOrder",
    "AppendReply",
    "Entry",
    "EntryKind",
    "HardState",
    "Heartbeat",
    "HeartbeatReply",
    "InstallSnapshot",
    "LogTerms",
    "Membership",
    "MembershipRefused",
    "Message",
    "NotLeader",
    "PeerStatus",
    "RaftConfig",
    "RaftNode",
    "RaftRefusal",
    "RaftStatus",
    "ReadGrant",
    "Ready",
    "RequestVote",
    "Restored",
    "Role",
    "SnapshotMeta",
    "TimeoutNow",
    "TooMuchUncommitted",
    "TransferRefused",
    "VoteReply",
]
