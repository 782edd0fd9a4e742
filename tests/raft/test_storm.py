"""Safety at every step of a random storm, liveness after it. ``storm.py`` says what is checked.

A checker is only worth what it catches: the last tests put known bugs back. (Committing an older term's entry by
counting needs a schedule that chance does not find; ``paper/test_5_4_safety.py`` scripts it.)
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from raftmq.ids import LogIndex, ReplicaId
from raftmq.raft.durability import Durability
from raftmq.raft.follower import Follower
from raftmq.raft.leader import Leader
from raftmq.raft.messages import AppendEntries

from .storm import Storm

STEPS = 3000


def weather(seed: int, steps: int = STEPS) -> Storm:
    """Three or five voters, with and without spares, with and without the group's own heartbeats, tight windows."""
    voters, spares = ((3, 0), (5, 0), (3, 2), (3, 0))[seed % 4]
    storm = Storm(seed, voters, spares, group_heartbeats=seed % 3 != 0, small=seed % 5 == 0)
    storm.run(steps, changes=spares > 0)
    return storm


@pytest.mark.parametrize("first", range(0, 160, 20))
def test_safety_in_the_storm_and_liveness_after_it(first: int) -> None:
    for seed in range(first, first + 20):
        weather(seed).calm()


def test_the_storm_in_which_only_a_replica_that_removed_itself_could_win() -> None:
    weather(32386).calm()


def test_the_storm_in_which_a_newcomer_led_another_one_by_snapshot() -> None:
    weather(20506).calm()


def test_a_seed_says_everything() -> None:
    """Twice the same storm: the same messages in flight, the same states."""
    one, other = weather(7), weather(7)
    assert one.cluster.network == other.cluster.network
    assert [node.status() for node in one.cluster] == [node.status() for node in other.cluster]


def test_the_hash_seed_of_the_process_says_nothing() -> None:
    """The same storm in two processes whose sets and dicts of strings are ordered differently."""
    program = (
        "from raft.test_storm import weather\n"
        "for seed in range(8):\n"
        "    storm = weather(seed)\n"
        "    print(storm.cluster.network, [host.synced.entries for host in storm.cluster.hosts.values()])\n"
    )
    tests = Path(__file__).parents[1]
    paths = os.pathsep.join(map(str, (tests, tests.parent)))
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": paths},
            check=True,
            capture_output=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(outputs) == 1


def test_the_storms_are_not_in_vain() -> None:
    """They commit, elect again and again, confirm reads, change the membership and install snapshots."""
    storms = [weather(seed) for seed in range(40)]
    assert sum(storm.truth.newest_commit for storm in storms) > 400
    assert sum(len(storm.truth.leaders) for storm in storms) > 100
    assert sum(storm.truth.reads_granted for storm in storms) > 100
    disks = [host.written for storm in storms for host in storm.cluster.hosts.values()]
    assert sum(index > 0 for disk in disks for index, _ in disk.memberships) > 10
    assert sum(storm.installed for storm in storms) > 10


def caught(seeds: range) -> str:
    """The first violation that a range of storms finds."""
    for seed in seeds:
        try:
            weather(seed)
        except AssertionError as violation:
            return str(violation)
    return ""


def test_a_known_bug_is_caught_a_leader_that_counts_itself_before_its_disk(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def match_index(leader: Leader, member: ReplicaId) -> LogIndex:
        progress = leader.replication.get(member)
        return progress.match_index if progress is not None else leader.core.log.last

    monkeypatch.setattr(Leader, "match_index", match_index)
    assert "without a quorum" in caught(range(100))


def test_a_known_bug_is_caught_a_follower_that_truncates_what_a_short_message_leaves_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = Follower.on_append_entries

    def eager(follower: Follower, message: AppendEntries) -> None:
        original(follower, message)
        core, end = follower.core, LogIndex(message.prev_index + len(message.entries))
        if message.entries and core.commit_index <= end < core.log.last:
            core.truncate(LogIndex(end + 1))

    monkeypatch.setitem(Follower.handlers, AppendEntries, eager)
    assert caught(range(100))


def test_a_known_bug_is_caught_a_late_mark_taken_at_its_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Durability, "truncated", lambda self, index: None)
    assert "not durable" in caught(range(100))
