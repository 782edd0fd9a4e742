"""What must hold, one property a file. ``R``: consensus, ``L``: the log as clients see it, ``C``: the controller,
``Q``: deliveries of queues, ``O``: consumer groups and their offsets."""

from __future__ import annotations

from raftmq.sim.invariants.base import Final, Invariant, Sight, Violated
from raftmq.sim.invariants.c01_one_history import OneHistory
from raftmq.sim.invariants.c02_topics import Topics
from raftmq.sim.invariants.c03_assignments import Assignments
from raftmq.sim.invariants.c04_told_leaders import ToldLeaders
from raftmq.sim.invariants.c05_deleted_stays import DeletedStays
from raftmq.sim.invariants.l01_offset_agreement import OffsetAgreement
from raftmq.sim.invariants.l02_no_duplicate import NoDuplicate
from raftmq.sim.invariants.l03_no_lost_write import NoLostWrite
from raftmq.sim.invariants.l04_unseen import Unseen
from raftmq.sim.invariants.l05_no_phantom import NoPhantom
from raftmq.sim.invariants.l06_real_time import RealTime
from raftmq.sim.invariants.l07_producer_order import ProducerOrder
from raftmq.sim.invariants.l08_contiguous_polls import ContiguousPolls
from raftmq.sim.invariants.l09_no_dirty_read import NoDirtyRead
from raftmq.sim.invariants.l10_watermark import Watermark
from raftmq.sim.invariants.l11_leader_epochs import LeaderEpochs
from raftmq.sim.invariants.l12_batches_whole import BatchesWhole
from raftmq.sim.invariants.l13_log_start import LogStart
from raftmq.sim.invariants.l14_equal_replicas import EqualReplicas
from raftmq.sim.invariants.l15_receipts import Receipts
from raftmq.sim.invariants.l16_depth import WithinDepth
from raftmq.sim.invariants.o01_register import Register
from raftmq.sim.invariants.o02_only_growing import OnlyGrowing
from raftmq.sim.invariants.o03_fencing import Fencing
from raftmq.sim.invariants.o04_one_owner import OneOwner
from raftmq.sim.invariants.o05_nothing_skipped import NothingSkipped
from raftmq.sim.invariants.o06_equal_groups import EqualGroups
from raftmq.sim.invariants.q01_exclusive_token import ExclusiveToken
from raftmq.sim.invariants.q02_no_redelivery import NoRedelivery
from raftmq.sim.invariants.q03_no_vanish import NoVanish
from raftmq.sim.invariants.q04_attempts import Attempts
from raftmq.sim.invariants.q05_leases import LeasesApart
from raftmq.sim.invariants.q06_one_place import OnePlace
from raftmq.sim.invariants.q07_key_order import KeyOrder
from raftmq.sim.invariants.q08_effectively_once import EffectivelyOnce
from raftmq.sim.invariants.q09_dead_letters import DeadLetters
from raftmq.sim.invariants.r01_election_safety import ElectionSafety
from raftmq.sim.invariants.r02_leader_append_only import LeaderAppendOnly
from raftmq.sim.invariants.r03_log_matching import LogMatching
from raftmq.sim.invariants.r04_leader_completeness import LeaderCompleteness
from raftmq.sim.invariants.r05_state_machine_safety import StateMachineSafety
from raftmq.sim.invariants.r06_commit import Commit
from raftmq.sim.invariants.r07_one_vote import OneVote
from raftmq.sim.invariants.r08_terms import TermsNeverFall
from raftmq.sim.invariants.r09_durable_first import DurableFirst
from raftmq.sim.invariants.r10_own_term import OwnTerm
from raftmq.sim.invariants.r11_configurations import Configurations
from raftmq.sim.node import SimNode
from raftmq.sim.oracle import Oracle


def all_invariants(nodes: dict[int, SimNode], oracle: Oracle) -> list[Invariant]:
    """Fresh ones, for one run."""
    return [
        ElectionSafety(), LeaderAppendOnly(), LogMatching(), LeaderCompleteness(), StateMachineSafety(), Commit(nodes),
        OneVote(), TermsNeverFall(), DurableFirst(), OwnTerm(), Configurations(),
        OffsetAgreement(), NoDuplicate(), NoLostWrite(), Unseen(), NoPhantom(oracle), RealTime(), ProducerOrder(),
        ContiguousPolls(), NoDirtyRead(), Watermark(), LeaderEpochs(), BatchesWhole(), LogStart(nodes), EqualReplicas(),
        Receipts(nodes), WithinDepth(),
        OneHistory(), Topics(), Assignments(), ToldLeaders(), DeletedStays(),
        Register(), OnlyGrowing(), Fencing(), OneOwner(), NothingSkipped(), EqualGroups(),
        ExclusiveToken(), NoRedelivery(), NoVanish(), Attempts(), LeasesApart(), OnePlace(), KeyOrder(),
        EffectivelyOnce(), DeadLetters(),
    ]  # fmt: skip


__all__ = ["Final", "Invariant", "Sight", "Violated", "all_invariants"]
