"""The checklist of ``raftmq/raft/README.md``, item by item: what implementations of Raft have got wrong.

Items that a rule of the paper covers as well are tested in ``paper/`` more broadly; here each has one test under
its number, so that nothing on the list is without one.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from raftmq.ids import LogIndex, Term, Tick
from raftmq.raft.config import RaftConfig
from raftmq.raft.core import LONG_AGO
from raftmq.raft.errors import MembershipRefused, NotLeader, TooMuchUncommitted, TransferRefused
from raftmq.raft.messages import (
    AppendEntries,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    Message,
    RequestVote,
    TimeoutNow,
    VoteReply,
)
from raftmq.raft.types import Entry, EntryKind, Membership, Role, SnapshotMeta

from .harness import ELECTION, HEARTBEAT, Cluster, Solo, append_reply, members, rejection, replica, vote_reply


def test_item_1_term_and_vote_are_durable_before_a_vote_leaves() -> None:
    solo = Solo([1], term=1)
    solo.node.step(RequestVote(replica(2), replica(1), Term(2), LogIndex(1), Term(1)), solo.now)
    ready = solo.node.ready()
    assert ready.send_now == ()
    assert ready.send_after_persist == (vote_reply(1, 2, 2, True),)
    assert ready.hard_state is not None
    assert (ready.hard_state.term, ready.hard_state.vote) == (2, replica(2))


def test_item_2_entries_are_durable_before_they_are_acknowledged() -> None:
    solo = Solo(term=1)
    entry = Entry(LogIndex(1), Term(1), EntryKind.DATA)
    solo.node.step(
        AppendEntries(replica(2), replica(1), Term(1), LogIndex(0), Term(0), (entry,), LogIndex(0)), solo.now
    )
    ready = solo.node.ready()
    assert (ready.send_now, ready.entries) == ((), (entry,))
    assert ready.send_after_persist == (append_reply(1, 2, 1, match=1),)


def test_item_2_an_answer_of_an_older_term_does_not_outlive_what_it_claims() -> None:
    """Acknowledged and overwritten within one pass: the old leader gets no answer about what is gone."""
    solo = Solo(term=1)
    for source, term in ((2, 1), (3, 2)):
        entry = Entry(LogIndex(1), Term(term), EntryKind.DATA)
        solo.node.step(
            AppendEntries(replica(source), replica(1), Term(term), LogIndex(0), Term(0), (entry,), LogIndex(0)),
            solo.now,
        )
    ready = solo.node.ready()
    assert ready.send_after_persist == (append_reply(1, 3, 2, match=1),)
    assert ([entry.term for entry in ready.entries], ready.truncate_from) == ([2], None)


def test_item_3_a_leader_counts_itself_only_when_its_disk_has_it() -> None:
    solo = Solo(term=1)
    solo.lead(2)
    solo.acked(2, 1)
    solo.acked(3, 1)
    solo.take()
    solo.node.propose(EntryKind.DATA, "x", 1)
    solo.host.pump()
    solo.node.step(append_reply(2, 1, solo.node.term, 2), solo.now)
    assert (solo.node.match_index(replica(1)), solo.node.commit_index) == (1, 1)
    solo.host.sync()
    assert (solo.node.match_index(replica(1)), solo.node.commit_index) == (2, 2)


def test_item_3_a_single_voter_commits_only_what_is_durable() -> None:
    cluster = Cluster(1)
    node = cluster.elect(1)
    cluster.settle()
    node.propose(EntryKind.DATA, "x", 1)
    cluster.hosts[1].pump()
    assert node.commit_index == 1
    cluster.hosts[1].sync()
    assert node.commit_index == 2


def test_item_3_a_candidate_counts_its_own_vote_only_when_it_is_durable() -> None:
    solo = Solo(term=1)
    solo.tick(2 * ELECTION)
    solo.node.step(vote_reply(2, 1, 2, True, True), solo.now)
    solo.host.pump()
    solo.node.step(vote_reply(2, 1, 2, True), solo.now)
    assert solo.node.role.value == "candidate"
    solo.host.sync()
    assert solo.node.role.value == "leader"


def test_item_3_a_mark_of_an_older_term_does_not_vouch_for_the_vote() -> None:
    solo = Solo(term=1)
    entry = Entry(LogIndex(1), Term(1), EntryKind.DATA)
    solo.node.step(
        AppendEntries(replica(2), replica(1), Term(1), LogIndex(0), Term(0), (entry,), LogIndex(0)), solo.now
    )
    solo.host.pump()
    solo.now = Tick(2 * ELECTION)
    solo.node.tick(solo.now)
    solo.host.pump()
    solo.node.step(vote_reply(2, 1, 2, True, True), solo.now)
    solo.host.pump()
    solo.node.step(vote_reply(2, 1, 2, True), solo.now)
    while len(solo.host.unsynced) > 1:
        solo.host.sync(1)
        assert solo.node.role.value == "candidate"
    solo.host.sync(1)
    assert solo.node.role.value == "leader"


def test_item_6_a_suspect_replica_neither_votes_nor_campaigns() -> None:
    solo = Solo([1, 1], term=5, suspect=True)
    assert solo.node.deadline() is None
    assert solo.tick(100 * ELECTION) == []
    assert solo.ask(2, 6, (9, 4), pre_vote=True) == [vote_reply(1, 2, 5, False, True)]
    assert solo.ask(2, 6, (9, 4)) == [vote_reply(1, 2, 6, False)]
    solo.node.campaign(solo.now)
    assert solo.take() == []
    assert solo.node.role is Role.FOLLOWER


def test_item_6_a_suspect_is_cleared_by_a_leader_elected_without_it_and_committed_in_its_term() -> None:
    solo = Solo([1], term=5, suspect=True)
    suspect = replace(append_reply(1, 2, 5, match=2, commit=1), suspect=True)
    assert solo.append(2, 5, (1, 1), [1], commit=1) == [suspect]
    assert solo.append(2, 5, (2, 1), [5], commit=2) == [
        replace(suspect, match_index=LogIndex(3), commit_index=LogIndex(2))
    ]
    assert solo.host.written.suspect
    assert solo.append(2, 5, (3, 5), [], commit=3) == [append_reply(1, 2, 5, match=3, commit=3)]
    assert not solo.node.suspect
    assert not solo.host.synced.suspect


def test_item_6_a_leader_knows_its_suspects_and_does_not_hand_over_to_them() -> None:
    solo = Solo(term=1)
    solo.lead(2)
    term = solo.node.term
    solo.step(replace(append_reply(3, 1, term, 1), suspect=True))
    assert solo.node.member_suspect(replica(3))
    with pytest.raises(TransferRefused):
        solo.node.transfer_leadership(replica(3), solo.now)
    solo.step(append_reply(3, 1, term, 1))
    solo.step(replace(append_reply(3, 1, term, 1), suspect=True))
    assert not solo.node.member_suspect(replica(3))


def test_item_8_hard_state_truncation_and_entries_come_in_one_ready() -> None:
    solo = Solo([1, 1, 1], term=1)
    entry = Entry(LogIndex(2), Term(3), EntryKind.DATA)
    solo.node.step(
        AppendEntries(replica(2), replica(1), Term(3), LogIndex(1), Term(1), (entry,), LogIndex(2)), solo.now
    )
    ready = solo.node.ready()
    assert ready.hard_state is not None
    assert (ready.hard_state.term, ready.truncate_from, ready.entries) == (3, 2, (entry,))
    assert (ready.committed_to, ready.persist_mark, ready.term) == (2, 2, 3)
    assert not solo.node.has_ready()


def test_item_10_election_timeouts_are_random_and_drawn_anew_each_time() -> None:
    drawn = set()
    solo = Solo(term=1)
    for _ in range(30):
        deadline = solo.node.deadline()
        assert deadline is not None
        assert ELECTION <= deadline - solo.now < 2 * ELECTION
        drawn.add(deadline - solo.now)
        solo.tick(deadline - solo.now)
    assert len(drawn) > 20
    with pytest.raises(ValueError, match="ten times"):
        RaftConfig(election_timeout=999, heartbeat_interval=100)


def test_item_10_ties_of_five_are_broken() -> None:
    for seed in range(30):
        cluster = Cluster(5, seed=seed)
        cluster.now = Tick(2 * ELECTION)
        for node in cluster:
            node.campaign(cluster.now)
        cluster.settle()
        cluster.run(10 * ELECTION)
        assert cluster.leader is not None


def test_item_11_a_pre_vote_does_not_raise_the_term() -> None:
    solo = Solo(term=1)
    for _ in range(10):
        solo.tick(2 * ELECTION)
    assert (solo.node.term, solo.node.role) == (1, Role.PRE_CANDIDATE)
    assert solo.host.synced.hard_state.vote is None


def test_item_12_no_vote_while_a_live_leader_is_known() -> None:
    solo = Solo([1], term=1)
    solo.append(2, term=1)
    solo.tick(ELECTION - 1)
    assert solo.ask(3, 4, (9, 3)) == [vote_reply(1, 3, 1, False)]
    assert (solo.node.term, solo.node.leader) == (1, replica(2))


def test_item_13_a_leader_without_a_quorum_goes_within_one_election_timeout() -> None:
    for heartbeats in (True, False):
        solo = Solo(term=1, config=RaftConfig(ELECTION, HEARTBEAT, heartbeats))
        solo.lead(2)
        since = solo.now
        while solo.node.role is Role.LEADER:
            deadline = solo.node.deadline()
            assert deadline is not None
            solo.tick(max(1, deadline - solo.now))
        assert solo.now - since == ELECTION


def test_item_13_what_the_host_heard_keeps_a_silent_leader() -> None:
    solo = Solo(term=1, config=RaftConfig(ELECTION, HEARTBEAT, group_heartbeats=False))
    solo.host.contact = lambda member: solo.now if member == replica(3) else LONG_AGO
    solo.host.start(solo.now)
    solo.lead(2)
    for _ in range(30):
        solo.tick(ELECTION // 2)
    assert solo.node.role is Role.LEADER


def test_item_15_a_leader_that_sees_a_higher_term_fails_what_waits() -> None:
    solo = Solo(term=1)
    solo.lead(2)
    solo.acked(2, 1)
    solo.node.read_index(1, solo.now)
    solo.step(append_reply(2, 1, term=9, match=0))
    assert (solo.node.role, solo.node.term, solo.host.reads_failed) == (Role.FOLLOWER, 9, [1])


def test_item_16_logs_are_compared_by_last_term_then_last_index() -> None:
    solo = Solo([1, 3, 3], term=3)
    table = {(3, 3): True, (2, 3): False, (9, 2): False, (1, 4): True, (4, 3): True}
    for term, (last, granted) in enumerate(table.items(), 5):
        assert solo.ask(2, term, last) == [vote_reply(1, 2, term, granted)]


def test_item_17_only_entries_of_the_own_term_commit_by_counting() -> None:
    solo = Solo([1, 1], term=1)
    solo.lead(2)
    solo.acked(2, 2)
    solo.acked(3, 2)
    assert solo.node.commit_index == 0
    solo.acked(3, 3)
    assert solo.node.commit_index == 3


@pytest.mark.parametrize("terms", [[], [1], [1, 1], [1, 1, 2]])
def test_item_18_truncate_only_on_a_real_conflict(terms: list[int]) -> None:
    """A message that is short or late says nothing about what comes after its last entry."""
    solo = Solo([1, 1, 2, 2], term=2)
    assert solo.append(2, 2, (0, 0), terms) == [append_reply(1, 2, 2, match=len(terms))]
    assert solo.log() == [1, 1, 2, 2]


def test_item_19_never_truncate_what_is_committed() -> None:
    solo = Solo([1, 1, 2], term=2, commit=3)
    with pytest.raises(AssertionError, match="is committed"):
        solo.append(2, 3, (1, 1), [3])


def test_item_20_stale_answers_are_ignored_and_match_never_falls() -> None:
    solo = Solo([1, 1, 1], term=1)
    solo.lead(2)
    solo.acked(2, 4)
    before = solo.node.status()
    assert solo.acked(2, 2) == []
    assert solo.acked(2, 3, term=1) == []
    assert solo.step(rejection(2, 1, solo.node.term, prev=3, hint=0, hint_term=0)) == []
    assert solo.step(append_reply(2, 1, solo.node.term, match=99)) == []
    assert solo.node.status() == before


def test_item_20_after_a_new_boot_progress_is_probed_again_and_match_stays() -> None:
    solo = Solo([1, 1, 1], term=1)
    solo.lead(2)
    solo.acked(2, 4)
    solo.take()
    solo.node.member_restarted(replica(2))
    sent = [m for m in solo.take() if m.target == replica(2)]
    assert [(type(m), m.prev_index, m.entries) for m in sent if isinstance(m, AppendEntries)] == [
        (AppendEntries, 4, ())
    ]
    status = solo.node.status().peers[replica(2)]
    assert (status.state, status.match_index, status.next_index) == ("probe", 4, 5)


def test_item_20_a_new_process_is_not_in_sync_before_it_has_answered() -> None:
    """Its disk may have lost what the one before had synced; it alone knows. A new stream to the same process is no
    reason for doubt."""
    solo = Solo([1, 1, 1], term=1)
    solo.lead(2)
    solo.acked(2, 4)
    solo.node.member_restarted(replica(2), is_new_process=False)
    assert not solo.node.member_suspect(replica(2))
    solo.node.member_restarted(replica(2), is_new_process=True)
    assert solo.node.member_suspect(replica(2))
    solo.acked(2, 4)
    assert not solo.node.member_suspect(replica(2))


def test_item_21_a_follower_commits_no_further_than_the_message_verified() -> None:
    """What it holds beyond may be another leader's."""
    solo = Solo([1, 1, 1, 1], term=2)
    assert solo.append(2, 2, (1, 1), [1], commit=4) == [append_reply(1, 2, 2, match=2, commit=2)]
    assert solo.node.commit_index == 2


def test_item_22_back_up_takes_one_probe_per_term_not_per_entry() -> None:
    cluster = Cluster(3)
    long = Solo([1] * 10 + [2] * 3000, term=3).host.synced
    short = Solo([1] * 10 + [3] * 5, term=3).host.synced
    for number, disk in ((1, long), (2, short), (3, long)):
        cluster.add(number, members(1, 2, 3), disk.copy())
    cluster.elect_by(2, 1, 3)
    probes = 0
    while cluster.network:
        probes += sum(isinstance(m, AppendReply) and m.rejected for m in cluster.network)
        cluster.deliver()
    assert cluster.log(1) == cluster.log(2)
    assert cluster[1].last_index == 16
    assert probes <= 4


def test_item_23_a_leader_without_a_quorum_stops_taking_proposals() -> None:
    solo = Solo(term=1, config=RaftConfig(ELECTION, HEARTBEAT, max_uncommitted_bytes=100))
    solo.lead(2)
    solo.node.propose(EntryKind.DATA, "x", 60)
    solo.node.propose(EntryKind.DATA, "x", 40)
    before = solo.node.status()
    with pytest.raises(TooMuchUncommitted):
        solo.node.propose(EntryKind.DATA, "x", 1)
    assert solo.node.status() == before
    solo.take()
    solo.acked(2, 2)
    assert solo.node.propose(EntryKind.DATA, "x", 60) == 4


def test_item_23_one_entry_is_taken_however_large_when_nothing_waits() -> None:
    solo = Solo(term=1, config=RaftConfig(ELECTION, HEARTBEAT, max_uncommitted_bytes=100))
    solo.lead(2)
    assert solo.node.propose(EntryKind.DATA, "x", 1000) == 2


def test_item_23_patience_counts_from_when_an_append_leaves_however_long_the_group_was_idle() -> None:
    """An append to an idle group was taken for overdue as soon as it had left, and sent twice."""
    solo = Solo(term=1, config=RaftConfig(ELECTION, HEARTBEAT, group_heartbeats=False))
    solo.lead(2)
    for follower in (2, 3):
        solo.acked(follower, 1)
    solo.now = Tick(solo.now + ELECTION - HEARTBEAT)
    solo.node.set_clock(solo.now)
    solo.node.propose(EntryKind.DATA, "x", 1)
    sent = [
        [m for m in messages if isinstance(m, AppendEntries) and m.entries] for messages in (solo.take(), solo.tick(1))
    ]
    assert [len(appends) for appends in sent] == [2, 0]


def test_item_24_proposals_elsewhere_are_refused_at_once_and_change_nothing() -> None:
    solo = Solo(term=1)
    solo.append(2, term=1)
    before = solo.node.status()
    with pytest.raises(NotLeader):
        solo.node.propose(EntryKind.DATA, "x", 1)
    assert solo.node.status() == before
    assert solo.node.leader == replica(2)


def test_item_25_a_read_waits_for_a_round_begun_after_it_and_for_the_terms_first_commit() -> None:
    solo = Solo(term=1)
    solo.lead(2)
    solo.node.read_index(1, solo.now)
    assert [m for m in solo.take() if isinstance(m, Heartbeat)] == []
    sent = solo.acked(2, 1)
    assert [m.round for m in sent if isinstance(m, Heartbeat)] == [1, 1]
    solo.step(HeartbeatReply(replica(2), replica(1), solo.node.term, 0))
    assert solo.host.reads == []
    solo.step(HeartbeatReply(replica(2), replica(1), solo.node.term, 1))
    assert [(grant.request_id, grant.index) for grant in solo.host.reads] == [(1, 1)]


def test_item_26_there_are_no_lease_reads() -> None:
    """However recently a quorum was heard, a read asks again."""
    solo = Solo(term=1)
    solo.lead(2)
    solo.acked(2, 1)
    solo.acked(3, 1)
    solo.node.read_index(1, solo.now)
    solo.take()
    assert solo.host.reads == []


def test_item_27_nothing_beyond_the_commit_index_is_handed_out_to_apply() -> None:
    solo = Solo(term=1)
    solo.append(2, 1, (0, 0), [1, 1, 1], commit=1)
    assert solo.host.readies[-1].committed_to == 1
    assert solo.host.written.applied == 1


def test_item_35_a_change_waits_for_an_entry_of_the_own_term() -> None:
    solo = Solo(term=1)
    solo.lead(2)
    with pytest.raises(MembershipRefused, match="no entry of this term"):
        solo.node.change_membership(members(1, 2))
    solo.acked(2, 1)
    assert solo.node.change_membership(members(1, 2)) == 2
    with pytest.raises(MembershipRefused, match="not committed"):
        solo.node.change_membership(members(1, 2, 3))


def test_item_36_a_learner_does_not_count_until_it_is_a_voter() -> None:
    cluster = Cluster(members(1, 2, learners=[3]))
    node = cluster.elect(1)
    cluster.propose("x")
    cluster.exchange(cut=[2])
    assert node.commit_index == 1
    cluster.exchange()
    cluster.run(ELECTION)
    node.change_membership(members(1, 2, 3))
    cluster.settle()
    cluster.exchange(cut=[2])
    assert node.commit_index == 3


def removed(commit: int) -> Solo:
    """Replica 1, which has taken the entry that removes it, as far as `commit`."""
    solo = Solo([1], term=1, commit=1)
    entry = Entry(LogIndex(2), Term(1), EntryKind.MEMBERSHIP, membership=members(2, 3))
    solo.step(AppendEntries(replica(2), replica(1), Term(1), LogIndex(1), Term(1), (entry,), LogIndex(commit)))
    return solo


def test_item_37_a_removed_replica_stops_campaigning_once_the_removal_is_committed() -> None:
    solo = removed(commit=2)
    assert solo.node.deadline() is None
    assert solo.tick(100 * ELECTION) == []
    assert (solo.node.role, solo.node.term) == (Role.FOLLOWER, 1)


def test_item_37_until_then_it_may_be_needed_and_campaigns_without_counting_itself() -> None:
    """It may be the only one with the newest entry; then nobody else can win (found by a storm)."""
    solo = removed(commit=1)
    sent = solo.tick(2 * ELECTION)
    assert [m.target for m in sent if isinstance(m, RequestVote)] == [replica(2), replica(3)]
    solo.voted(2, pre_vote=True)
    assert solo.node.status().role.value == "pre_candidate"
    solo.voted(3, pre_vote=True)
    assert solo.node.status().role.value == "candidate"
    solo.voted(2)
    assert solo.node.status().role.value == "candidate"
    solo.voted(3)
    assert solo.node.status().role.value == "leader"
    solo.acked(2, 3)
    assert solo.node.status().role.value == "leader"
    solo.acked(3, 3)
    assert (solo.node.status().role.value, solo.node.commit_index) == ("follower", 3)


def test_item_38_a_group_is_never_left_without_voters() -> None:
    solo = Solo(term=1)
    solo.lead(2)
    solo.acked(2, 1)
    with pytest.raises(MembershipRefused, match="at least one voter"):
        solo.node.change_membership(members(learners=[1, 2, 3]))


def test_item_39_a_transfer_stops_proposals_catches_up_and_gives_up_in_time() -> None:
    solo = Solo(term=1)
    solo.lead(2)
    solo.acked(2, 1)
    solo.node.transfer_leadership(replica(3), solo.now)
    with pytest.raises(NotLeader):
        solo.node.propose(EntryKind.DATA, "x", 1)
    assert [m for m in solo.take() if isinstance(m, TimeoutNow)] == []
    assert [m.target for m in solo.acked(3, 1) if isinstance(m, TimeoutNow)] == [replica(3)]
    solo.tick(ELECTION - 1)
    solo.acked(2, 1)
    assert solo.node.status().transfer_target == replica(3)
    solo.tick(1)
    assert solo.node.status().transfer_target is None
    assert solo.node.propose(EntryKind.DATA, "x", 1) == 2


def test_item_40_a_lagging_target_is_not_told_to_campaign() -> None:
    solo = Solo([1] * 5, term=1)
    solo.lead(2)
    solo.acked(2, 6)
    solo.node.transfer_leadership(replica(3), solo.now)
    solo.acked(3, 5)
    assert [m for m in solo.take() if isinstance(m, TimeoutNow)] == []
    solo.tick(ELECTION - 1)
    assert [m for m in solo.out if isinstance(m, TimeoutNow)] == []


def test_item_50_a_leader_that_was_stopped_does_not_serve_before_it_has_asked_again() -> None:
    """Paused past the timeout: the first tick deposes it, and a read that was asked for fails."""
    solo = Solo(term=1)
    solo.lead(2)
    solo.acked(2, 1)
    solo.node.read_index(1, solo.now)
    solo.take()
    solo.tick(10 * ELECTION)
    assert (solo.node.role, solo.host.reads, solo.host.reads_failed) == (Role.FOLLOWER, [], [1])


def test_item_50_time_that_goes_back_changes_nothing() -> None:
    solo = Solo(term=1)
    solo.append(2, term=1)
    solo.tick(500)
    deadline = solo.node.deadline()
    solo.node.tick(Tick(0))
    solo.node.step(Heartbeat(replica(2), replica(1), Term(1), LogIndex(0)), Tick(0))
    assert deadline is not None
    assert solo.node.deadline() == deadline + 500


def forged(rng: Random) -> Message:
    """A message that no correct replica would send, or would send to somebody else."""
    number = [-(2**63), -1, 0, 1, 2, 3, 5, 2**62, 2**64]

    def index() -> LogIndex:
        return LogIndex(rng.choice(number))

    def term() -> Term:
        return Term(rng.choice(number))

    source, target = replica(rng.randint(1, 5)), replica(rng.choice((1, 1, 1, 2)))
    config: Membership | None = rng.choice([None, members(1, 2), members()])
    entries = tuple(
        Entry(index(), term(), rng.choice(list(EntryKind)), None, rng.choice((-1, 0, 9)), config)
        for _ in range(rng.randint(0, 3))
    )
    at = Term(rng.choice((0, 1, 2, 3, -1, 2**62)))
    makers: list[Message] = [
        RequestVote(source, target, at, index(), term(), rng.random() < 0.5, rng.random() < 0.5),
        VoteReply(source, target, at, rng.random() < 0.5, rng.random() < 0.5),
        AppendEntries(source, target, at, index(), term(), entries, index()),
        AppendReply(source, target, at, index(), rng.random() < 0.5, index(), term(), False, index()),
        Heartbeat(source, target, at, index(), rng.choice(number)),
        HeartbeatReply(source, target, at, rng.choice(number)),
        InstallSnapshot(source, target, at, SnapshotMeta(index(), term(), config or members())),
        TimeoutNow(source, target, at),
    ]
    return rng.choice(makers)


@pytest.mark.parametrize("role", ["follower", "pre_candidate", "leader"])
def test_whatever_a_peer_sends_nothing_is_raised_and_nothing_committed_is_lost(role: str) -> None:
    for seed in range(150):
        rng = Random(seed)
        solo = Solo([1, 1, 1], term=1, commit=2)
        if role == "leader":
            solo.lead(2)
        elif role == "pre_candidate":
            solo.tick(2 * ELECTION)
        for _ in range(40):
            message = forged(rng)
            if isinstance(message, AppendEntries) and contradicts(message):
                continue
            solo.step(message)
        assert solo.node.commit_index >= 2
        assert solo.node.term_at(LogIndex(2)) in (1, None)
        assert solo.node.term < 2**62


def contradicts(message: AppendEntries) -> bool:
    """Whether it overwrites the committed entries 1 and 2 of the log under test: that is a crash (item 19)."""
    return any(entry.index in (1, 2, 3) and entry.term != 1 for entry in message.entries)
