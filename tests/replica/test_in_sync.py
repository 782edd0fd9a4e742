"""Who is in sync, and for whom ALL waits."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from raftmq.ids import LogIndex, NodeId, ReplicaId, StoreId, Tick
from raftmq.replica.in_sync import InSyncSet

ME, B, C = (ReplicaId(NodeId(n), StoreId(10 * n)) for n in (1, 2, 3))
LAG = 2_000


@dataclass
class Voters:
    match: dict[ReplicaId, int]
    suspects: set[ReplicaId] = field(default_factory=set)
    dead: set[ReplicaId] = field(default_factory=set)
    short: set[ReplicaId] = field(default_factory=set)

    def voters(self) -> Iterable[ReplicaId]:
        return sorted(self.match)

    def match_index(self, member: ReplicaId) -> LogIndex:
        return LogIndex(self.match[member])

    def is_suspect(self, member: ReplicaId) -> bool:
        return member in self.suspects

    def is_dead(self, member: ReplicaId) -> bool:
        return member in self.dead

    def is_short(self, member: ReplicaId) -> bool:
        return member in self.short


def leading(voters: Voters, noop: int = 5) -> InSyncSet:
    return InSyncSet(ME, voters, Tick(0), LogIndex(noop), LAG)


def test_in_a_new_term_a_voter_counts_once_it_holds_the_no_op() -> None:
    voters = Voters({ME: 5, B: 4, C: 5})
    assert leading(voters).members(Tick(1)) == [ME, C]


def test_a_voter_stays_while_it_holds_what_the_log_held_lag_max_ago() -> None:
    voters = Voters({ME: 9, B: 5, C: 9})
    in_sync = leading(voters)
    in_sync.grew(Tick(100), LogIndex(9))
    assert in_sync.members(Tick(100 + LAG - 1)) == [ME, B, C]
    assert in_sync.members(Tick(100 + LAG)) == [ME, C]
    voters.match[B] = 9
    assert in_sync.members(Tick(100 + LAG)) == [ME, B, C]


def test_the_set_rests_once_all_growth_is_old() -> None:
    in_sync = leading(Voters({ME: 9, B: 5, C: 9}))
    rests = [in_sync.is_at_rest]
    in_sync.grew(Tick(100), LogIndex(9))
    for at in (100 + LAG - 1, 100 + LAG):
        in_sync.members(Tick(at))
        rests.append(in_sync.is_at_rest)
    assert rests == [True, False, True]
    assert in_sync.members(Tick(100 + LAG)) == [ME, C]


def test_a_dead_or_suspect_voter_leaves_at_once() -> None:
    voters = Voters({ME: 5, B: 5, C: 5})
    in_sync = leading(voters)
    voters.dead.add(B)
    assert in_sync.members(Tick(1)) == [ME, C]
    voters.suspects.add(C)
    assert in_sync.members(Tick(1)) == [ME]


def test_the_leader_is_always_in_its_own_set() -> None:
    assert leading(Voters({ME: 0, B: 0, C: 0})).members(Tick(10_000)) == [ME]


def test_all_waits_for_every_voter_not_known_dead_until_the_term_has_had_lag_max() -> None:
    voters = Voters({ME: 8, B: 0, C: 8})
    in_sync = leading(voters)
    assert in_sync.held_by_all(Tick(LAG - 1)) == 0
    voters.dead.add(B)
    assert in_sync.held_by_all(Tick(LAG - 1)) == 8
    voters.dead.clear()
    assert in_sync.held_by_all(Tick(LAG)) == 8  # B does not hold the no-op, so it is out of sync now


def test_all_waits_for_the_leaders_own_disk_too() -> None:
    assert leading(Voters({ME: 6, B: 9, C: 9})).held_by_all(Tick(LAG)) == 6


def test_growth_notes_stay_few_under_load() -> None:
    voters = Voters({ME: 5, B: 5, C: 5})
    in_sync = leading(voters)
    for tick in range(LAG):
        in_sync.grew(Tick(tick), LogIndex(6 + tick))
    assert len(in_sync._growth) <= LAG // InSyncSet.GRAIN + 1
    assert in_sync.floor(Tick(LAG + 500)) >= 6 + 490


def test_a_voter_whose_disk_runs_full_neither_counts_nor_is_waited_for() -> None:
    voters = Voters({ME: 9, B: 9, C: 7}, short={C})
    in_sync = leading(voters)
    assert in_sync.members(Tick(1)) == [ME, B]
    assert in_sync.held_by_all(Tick(1)) == 7, "it may have been relied upon in the term before"
    assert in_sync.held_by_all(Tick(LAG)) == 9
    voters.short.clear()
    assert in_sync.members(Tick(LAG)) == [ME, B, C]
