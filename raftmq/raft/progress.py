"""The leader's view of one other member, and the only place where it changes.

               accepted reply                     next_index < log start
    PROBE --------------------------> REPLICATE    (both) ---------------> SNAPSHOT
      ^                                   |                                   |
      |    rejected, silent, restarted    |                                   |
      +-----------------------------------+                                   |
      +-----------------------------------------------------------------------+
                            reply reaches the snapshot

PROBE       where the logs agree is not known: one message at a time, then wait for its answer. The first one
            carries entries; when it stays unanswered the repetitions are empty, and come after two, four and eight
            times the wait, up to an election timeout, so that a dead member costs little.
REPLICATE   optimistic: messages follow each other without waiting, as long as the window has room, in messages
            and in bytes (dissertation, section 10.2.1).
SNAPSHOT    nothing is appended until the member says that it holds the snapshot; the order is repeated.

A message may be lost without a trace, so each state has a moment at which it tries again (``retry_at``).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum

from raftmq.ids import LogIndex, Tick
from raftmq.raft.config import RaftConfig
from raftmq.raft.types import PeerStatus


class ProgressState(Enum):
    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


@dataclass(slots=True)
class Progress:
    """Invariants: ``match_index < next_index``; ``match_index`` never falls; the window is empty unless REPLICATE.

    What a member acknowledged in this term stays true in this term: it was durable when it said so, and a
    follower never truncates what it holds in common with its leader. A disk that lost it is another replica, or
    is suspect and comes back with a higher term, which ends this leader's. A replica that is removed and comes back to
    the same disk, empty, within the term is named like the one before: it is admitted anew, with a progress of its own,
    and only answers to messages of this ``admission`` count for it. That must be the leader's number, and not one that
    the replica gives itself: an answer of the one before may be all that has been heard when it is looked at, and
    whatever lowered the match index later, an entry could have been committed by then.
    """

    config: RaftConfig
    next_index: LogIndex
    contact: Tick
    """When it last answered in this term (as seen by the core alone)."""
    admission: int = 0
    """Counts the newcomers of this term; 0: a member since the leader was elected."""
    match_index: LogIndex = LogIndex(0)
    state: ProgressState = ProgressState.PROBE
    suspect: bool = False
    """Not to be counted as in sync: it called itself suspect, or its process is new and has not said a word yet."""
    _cleared: bool = False
    pending_snapshot: LogIndex = LogIndex(0)
    commit_known: LogIndex = LogIndex(0)
    """The commit index that the member has confirmed."""
    round_acked: int = 0
    """The newest read round that it answered."""
    _commit_sent: LogIndex = LogIndex(0)
    _window: deque[tuple[LogIndex, int]] = field(default_factory=deque)
    _window_bytes: int = 0
    _waiting_since: Tick | None = None
    """PROBE, SNAPSHOT: when the message that waits for an answer was sent. None: free to send."""
    _unanswered: int = 0
    """PROBE: so many probes in a row got no answer in time."""
    _news_sent_at: Tick = Tick(0)
    _news_due: Tick | None = None
    """REPLICATE: until then the news of a commit waits for entries to travel with. None: it waits for nothing."""
    _moved_at: Tick = Tick(0)
    """REPLICATE: when the window was last empty, or last got shorter."""

    # -- questions -----------------------------------------------------------------------------------------------

    def may_send(self, last: LogIndex, commit: LogIndex, now: Tick) -> bool:
        """Whether a message to this member is due now, given the end of the log and the commit index."""
        if self.state is ProgressState.SNAPSHOT:
            return False
        if self.state is ProgressState.PROBE:
            return self._waiting_since is None
        if self.next_index <= last:
            return not self.window_full
        return self._is_behind(commit) and (self._news_due is None or now >= self._news_due)

    def _is_behind(self, commit: LogIndex) -> bool:
        return self._commit_sent < min(commit, self.next_index - 1)

    @property
    def window_full(self) -> bool:
        return (
            len(self._window) >= self.config.max_inflight_messages
            or self._window_bytes >= self.config.max_inflight_bytes
        )

    @property
    def wants_entries(self) -> bool:
        """False for the repetition of an unanswered probe."""
        return not (self.state is ProgressState.PROBE and self._unanswered)

    def retry_at(self, commit: LogIndex) -> Tick | None:
        """When ``retry`` has something to do. None: nothing waits for an answer."""
        interval, patience = self.config.heartbeat_interval, self.config.election_timeout
        if self.state is ProgressState.SNAPSHOT:
            return None if self._waiting_since is None else Tick(self._waiting_since + patience)
        if self.state is ProgressState.PROBE:
            wait = min(interval << min(self._unanswered, 16), patience)
            return None if self._waiting_since is None else Tick(self._waiting_since + wait)
        due = [Tick(self._moved_at + patience // 2)] if self._window else []
        if not self._window and self._news_due is not None and self._is_behind(commit):
            due.append(self._news_due)
        if self.commit_known < min(commit, self._commit_sent):
            due.append(Tick(self._news_sent_at + interval))
        return min(due, default=None)

    def status(self, is_learner: bool) -> PeerStatus:
        return PeerStatus(
            match_index=self.match_index,
            next_index=self.next_index,
            state=self.state.value,
            in_flight=len(self._window),
            suspect=self.suspect,
            is_learner=is_learner,
        )

    # -- what was sent -------------------------------------------------------------------------------------------

    def sent(self, last: LogIndex, size: int, commit: LogIndex, now: Tick) -> None:
        """A message left whose last entry is `last` (``next_index - 1`` if it is empty), of `size` bytes."""
        assert last >= self.next_index - 1, "entries are sent in order"
        assert self.state is not ProgressState.SNAPSHOT, "nothing is appended under a snapshot"
        told = LogIndex(min(commit, last))
        if told > self._commit_sent:
            self._commit_sent, self._news_sent_at, self._news_due = told, now, None
        if self.state is ProgressState.PROBE:
            self._waiting_since = now
        elif last >= self.next_index:
            if not self._window:
                self._moved_at = now
            self._window.append((last, size))
            self._window_bytes += size
            self.next_index = LogIndex(last + 1)

    def snapshot_ordered(self, index: LogIndex, now: Tick) -> None:
        """The member needs a snapshot, and was told to fetch the one at `index`."""
        self._enter(ProgressState.SNAPSHOT)
        self.pending_snapshot = index
        self._waiting_since = now

    # -- what came back ------------------------------------------------------------------------------------------

    def heard(self, now: Tick) -> None:
        self.contact = max(self.contact, now)

    def accepted(self, match: LogIndex, log_start: LogIndex, now: Tick) -> bool:
        """It holds the log up to `match`. Returns whether ``match_index`` rose; an older claim changes nothing."""
        if match < self.match_index:
            return False
        rose = match > self.match_index
        self.match_index = match
        self.next_index = max(self.next_index, LogIndex(match + 1))
        if self.state is ProgressState.REPLICATE:
            self._free(now)
        elif self.state is ProgressState.PROBE:
            self._enter(ProgressState.REPLICATE)
            self.next_index = LogIndex(match + 1)
        elif match >= self.pending_snapshot or match + 1 >= log_start:
            self._enter(ProgressState.PROBE)
            self.next_index = LogIndex(match + 1)
        return rose

    def rejected(self, prev: LogIndex, agreed: LogIndex) -> bool:
        """It refused entries after `prev`; the logs may agree at `agreed`. Returns whether that was news."""
        if self.state is ProgressState.SNAPSHOT or prev <= self.match_index:
            return False
        if self.state is ProgressState.PROBE and prev != self.next_index - 1:
            return False
        if self.state is ProgressState.REPLICATE and prev >= self.next_index:
            return False
        self._enter(ProgressState.PROBE)
        self.next_index = LogIndex(max(min(agreed + 1, prev), self.match_index + 1))
        return True

    def reported(self, suspect: bool) -> None:
        """It called itself suspect or not. Once cleared it stays so in this term, whatever comes in late."""
        self._cleared = self._cleared or not suspect
        self.suspect = not self._cleared

    def committed(self, now: Tick) -> None:
        """The commit index rose. With the next entries the news costs nothing; alone it goes after a while."""
        if self._news_due is None and self.state is ProgressState.REPLICATE:
            self._news_due = Tick(now + self.config.commit_news_delay)

    def confirmed_commit(self, commit: LogIndex) -> None:
        self.commit_known = max(self.commit_known, commit)

    def confirmed_round(self, number: int) -> None:
        self.round_acked = max(self.round_acked, number)

    # -- starting over -------------------------------------------------------------------------------------------

    def new_process(self) -> None:
        """Another process speaks for it. What the one before acknowledged still counts towards the commit index, but
        whether it is all there this one must say first: its disk may have lost something while it was down.
        """
        self.restart()
        self.suspect, self._cleared = True, False

    def restart(self) -> None:
        """Nothing that is under way is counted on any more; what was acknowledged still is."""
        if self.state is ProgressState.REPLICATE:
            self._enter(ProgressState.PROBE)
            self.next_index = LogIndex(self.match_index + 1)
        self._waiting_since = None
        self._unanswered = 0

    def poke(self) -> None:
        """Make one message available at once: the member has shown that it does not know its leader."""
        self._waiting_since = None
        self._commit_sent = min(self._commit_sent, self.commit_known)
        if self.state is ProgressState.REPLICATE and not self._window:
            self.restart()

    def retry(self, commit: LogIndex, now: Tick) -> bool:
        """At ``retry_at``: give up waiting. Returns whether something became available."""
        at = self.retry_at(commit)
        if at is None or now < at:
            return False
        if self.state is not ProgressState.REPLICATE:
            self._unanswered += 1
            self._waiting_since = None
        elif self._window and now >= self._moved_at + self.config.election_timeout // 2:
            self.restart()
        elif self.commit_known < self._commit_sent and now >= self._news_sent_at + self.config.heartbeat_interval:
            self._commit_sent = self.commit_known
        return True

    @property
    def snapshot_due(self) -> bool:
        """SNAPSHOT: the order stayed unanswered and is to be repeated."""
        return self.state is ProgressState.SNAPSHOT and self._waiting_since is None

    def _free(self, now: Tick) -> None:
        while self._window and self._window[0][0] <= self.match_index:
            self._window_bytes -= self._window.popleft()[1]
            self._moved_at = now

    def _enter(self, state: ProgressState) -> None:
        self.state = state
        self._window.clear()
        self._window_bytes = 0
        self._waiting_since = None
        self._unanswered = 0
        self.pending_snapshot = LogIndex(0)
        self._commit_sent = min(self._commit_sent, self.commit_known)
        self._news_due = None
