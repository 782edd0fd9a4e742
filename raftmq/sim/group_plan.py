"""What a seed decides about consumer groups: one seed in five has a group, whose members then take the place of most
other clients. Data, drawn ahead of the run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING

from raftmq.assembly import Assembly
from raftmq.client.group_types import CommitMode
from raftmq.client.groups import AssignorName
from raftmq.sim.retaining import RetentionPlan

if TYPE_CHECKING:
    from raftmq.sim.plan import Plan, Step

SHARE = 0.2
"""Of all seeds."""
WRONG_CLOCKS = ("clock_rate", "clock_jump", "deposed")
"""Faults with which some node may be wrong about how much time has passed; some of those that isolate, too."""


@dataclass(frozen=True, slots=True)
class Life:
    """One process that is a member for a while. Times in microseconds, from the beginning of the safety phase."""

    at: int
    length: int
    end: str
    """"leave", "kill" or "stay": until the run is over."""
    instance: str = ""
    nap: tuple[int, int] = (0, 0)
    """From when on, and for how long, the process is stopped; (0, 0): never."""
    oversleeps: int = 0
    """For so long it sends no heartbeats once it has processed a record, and then it commits; 0: never."""
    by_batches: bool = False


@dataclass(frozen=True, slots=True)
class GroupPlan:
    """How one group behaves. Times in milliseconds unless named otherwise."""

    name: str
    commit: CommitMode
    commit_interval_ms: int
    assignor: AssignorName
    session_ms: int
    rebalance_ms: int
    process_ms: float
    """What a record takes, on average."""
    max_bytes: int
    partitions: int
    """Of the internal topic of groups."""
    grace_ms: int
    reclaim_bytes: int
    trim_ms: int
    is_timely: bool
    """All clocks are right in this run."""
    is_primed: bool
    """The internal topic exists when the faults begin."""
    lives: tuple[Life, ...]

    def tune(self, assembly: Assembly) -> None:
        """Have a node that is about to start behave so."""
        assembly.coordinator.grace_ms = self.grace_ms
        assembly.controller.groups_partitions = self.partitions
        upkeep = assembly.replicas.upkeep
        upkeep.trim_interval, upkeep.reclaim_bytes = self.trim_ms, self.reclaim_bytes
        upkeep.waited_for, upkeep.held_bytes_max = self.trim_ms, 0


def draw_group(rng: Random, plan: Plan) -> GroupPlan | None:
    """The group of this seed, if it has one; `plan` then has less of everything else, and more time."""
    if rng.random() >= SHARE:
        return None
    _make_room(rng, plan)
    election = plan.election_ms
    is_timely = rng.random() < 0.6
    if is_timely:
        plan.clock_rates = (1000,) * plan.nodes
        plan.steps = [step for step in plan.steps if not _is_of_clocks(step)]
    session_ms = rng.choice((1_000, 1_000, 1_500))
    return GroupPlan(
        name=rng.choice(("readers", "others")),
        commit=rng.choices(("after", "manual", "before"), weights=(4, 4, 2))[0],
        commit_interval_ms=rng.choice((20, 100, 400)),
        assignor=rng.choice(("sticky", "sticky", "uniform")),
        session_ms=session_ms,
        rebalance_ms=rng.choice((1_000, 2_000)),
        process_ms=rng.choice((0.0, 2.0, 20.0)),
        max_bytes=rng.choice((200, 100_000)),
        partitions=rng.choice((1, 1, 2)),
        grace_ms=5 * election,
        reclaim_bytes=rng.choice((400, 1_500, 1 << 20)),
        trim_ms=int(election * rng.choice((0.2, 0.5))),
        is_timely=is_timely,
        is_primed=rng.random() < 0.8,
        lives=tuple(sorted(_lives(rng, plan.safety, session_ms), key=lambda life: life.at)),
    )


def _is_of_clocks(step: Step) -> bool:
    return step.kind in WRONG_CLOCKS or (step.kind == "isolate" and step.picks[0] & 3 == 3)


def _make_room(rng: Random, plan: Plan) -> None:
    plan.thin, plan.named, plan.published = [], [], []
    plan.churn, plan.consumers, plan.retention = False, 0, RetentionPlan()
    plan.heartbeat_ms = rng.choice((50, 100, 100))
    plan.election_ms = 10 * plan.heartbeat_ms
    plan.topics = {"t0": rng.choice((2, 3, 4))}
    plan.producers = [
        replace(
            plan.producers[0],
            topic="t0",
            partitions=plan.topics["t0"],
            pause_ms=rng.choice((100.0, 300.0)),
            burst=rng.choice((1, 2)),
        )
    ]
    before, plan.safety = plan.safety, max(plan.safety, rng.randrange(1_500_000, 3_000_000))
    plan.steps = [replace(step, at=step.at * plan.safety // before) for step in plan.steps]


def _lives(rng: Random, safety: int, session_ms: int) -> list[Life]:
    """Some lives one after the other, some of them under one name that outlives them, and that they may fight over."""
    lives: list[Life] = []
    for number in range(rng.choice((2, 2, 3))):
        at = rng.randrange(safety // 4)
        instance = f"instance-{number}" if rng.random() < 0.3 else ""
        while at < safety:
            length = rng.randrange(safety // 4, safety)
            nap, oversleeps = (0, 0), 0
            match rng.randrange(5):
                case 0:
                    nap = at + rng.randrange(length), int(session_ms * rng.choice((500, 1_500, 2_000)))
                case 1:
                    oversleeps = int(session_ms * rng.choice((600, 1_500, 2_000)))
            end = rng.choices(("leave", "kill", "stay"), weights=(4, 3, 2))[0]
            lives.append(Life(at, length, end, instance, nap, oversleeps, rng.random() < 0.3))
            # The next one may be there before this one has gone.
            at += length + (rng.randrange(600_000) if rng.random() < 0.6 else -rng.randrange(length))
            if end == "stay":
                break
    return lives
