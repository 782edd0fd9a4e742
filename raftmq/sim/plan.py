"""What one seed means: a cluster, its clients, its weather, and a schedule of faults. Swarm style: each seed draws
which kinds of faults it has and how often, so that rare combinations come up too. One seed in sixteen is *long*: more
clients, more partitions, more faults, three times the time; the others are short, so that there are many of them.

A plan is data. The faults are drawn ahead of the run, with whatever they need at random, so that a run with some of
them left out is still the same run otherwise: that is what makes shrinking work.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random

from raftmq.assembly import Assembly
from raftmq.client.types import Acks
from raftmq.sim.depth import DepthPlan, draw_depth
from raftmq.sim.group_plan import GroupPlan, draw_group
from raftmq.sim.queueing import LETTERS, SHARE, QueuePlan, draw_faces, draw_queues
from raftmq.sim.retaining import RetentionPlan, draw_retention
from raftmq.sim.thin import ThinPlan
from raftmq.sim.weather import Weather
from raftmq.sim.workload import ProducerPlan

KINDS = (
    "kill", "kill_many", "power", "power_many", "crash_loop", "pause", "pause_many", "isolate", "halves", "one_way",
    "one_link", "bridge", "ring", "flapping", "cut_client", "slow_disk", "hung_disk", "stalled_write", "failed_write",
    "failed_sync", "lost_tail", "trap", "clock_rate", "wall_jump", "transfer", "slow_network", "lossy_calls",
    "deposed", "torn_write", "corrupt_log", "corrupt_read", "slow_reads", "clock_jump", "orphaned_install",
)  # fmt: skip
"""Every kind of fault; see ``faults``."""

LONG_SHARE = 1 / 16
"""Of all seeds."""

MEMBER_KINDS = ("move", "drain", "cancel", "wipe", "join", "leave")
"""What operators do meanwhile; see ``members``."""


@dataclass(frozen=True, slots=True)
class Step:
    """One fault: when, what, for how long (microseconds), and three numbers for whatever it has to choose."""

    at: int
    kind: str
    length: int
    picks: tuple[int, int, int]

    def __str__(self) -> str:
        return f"{self.at / 1e6:.3f} s: {self.kind} for {self.length / 1e6:.3f} s, picks {self.picks}"


@dataclass(slots=True)
class Plan:
    """Everything that a seed decides ahead of the run. Times in microseconds unless named otherwise."""

    seed: int
    nodes: int
    topics: dict[str, int]
    """Partitions by name, of the topics that live through the run."""
    replication_factor: int
    heartbeat_ms: int
    election_ms: int
    tail_bytes: int
    safety: int
    """How long clients and faults are at work, from when the topics exist."""
    weather: Weather
    sync: tuple[int, int]
    through_codec: bool
    """Frames are written to bytes and read again, as on a wire."""
    producers: list[ProducerPlan] = field(default_factory=list)
    thin: list[ThinPlan] = field(default_factory=list)
    named: list[ThinPlan] = field(default_factory=list)
    """Thin clients that send under message ids."""
    published: list[ThinPlan] = field(default_factory=list)
    """Clients that send to an exchange."""
    queues: list[QueuePlan] = field(default_factory=list)
    """Queue groups, and those who work for them."""
    consumers: int = 2
    churn: bool = False
    min_in_sync: int = 0
    """Of the topics; 0: the majority."""
    clock_rates: tuple[int, ...] = ()
    """How fast each node's clock runs, in thousandths; no two quartz crystals are the same."""
    reader_pause_ms: float = 0.0
    """How long consumers take for a record, on average."""
    steps: list[Step] = field(default_factory=list)
    retention: RetentionPlan = field(default_factory=RetentionPlan)
    group: GroupPlan | None = None
    depth: DepthPlan | None = None

    def tune(self, assembly: Assembly) -> None:
        """Have a node that is about to start behave so."""
        self.retention.tune(assembly)
        if self.group is not None:
            self.group.tune(assembly)
        if LETTERS in self.topics:
            assembly.dead_letters.interval_s = self.election_ms / 2000
            assembly.dead_letters.limit_ms = self.election_ms // 2


def draw(seed: int) -> Plan:
    """The plan of a seed: the same for ever, in this version."""
    rng = Random(f"plan {seed}")
    is_long = rng.random() < LONG_SHARE
    nodes = rng.choices((3, 5, 4, 1), weights=(14, 3, 2, 1) if is_long else (40, 2, 1, 1))[0]
    operators = Random(f"operators {seed}")
    has_operators = operators.random() < (0.3 if is_long else 0.1)
    grows = operators.random() < 0.4  # a node joins; before it there may be as few as a topic has replicas
    if has_operators:
        nodes = max(nodes, 3 if grows else 4)
    weather = _weather(rng)
    heartbeat = rng.choice((20, 50, 100) if weather.latency[1] < 20_000 else (50, 100))
    election = heartbeat * rng.choice((10, 10, 10, 15))
    partitions = (1, 2, 3) if is_long else (1, 1, 2)
    topics = {
        f"t{number}": rng.choice(partitions) for number in range(rng.choice((1, 1, 2) if is_long else (1, 1, 1, 2)))
    }
    plan = Plan(
        seed=seed,
        nodes=nodes,
        topics=topics,
        replication_factor=min(nodes, rng.choice((3, 3, 3, 5, 2))),
        heartbeat_ms=heartbeat,
        election_ms=election,
        tail_bytes=rng.choice((0, 1 << 20, 1 << 20)),
        safety=int((rng.uniform(2, 4) if is_long else rng.uniform(0.9, 2.0)) * election * 1000),
        weather=weather,
        sync=rng.choice(((300, 3_000), (50, 500), (2_000, 30_000))),
        through_codec=rng.random() < 0.15,
        consumers=rng.randint(1, 2),
        churn=rng.random() < (0.4 if is_long else 0.2),
    )
    plan.thin = [_thin(rng, topics, election) for _ in range(rng.randint(0, 2 if is_long else 1))]
    plan.min_in_sync = rng.choice((0, 0, 0, plan.replication_factor))
    plan.producers = [_producer(rng, topics, election) for _ in range(rng.randint(1, 3 if is_long else 2))]
    plan.clock_rates = tuple(rng.randint(900, 1100) for _ in range(nodes)) if rng.random() < 0.5 else (1000,) * nodes
    plan.reader_pause_ms = rng.choice((0.0, 0.0, 5.0, 60.0))
    plan.steps = _steps(rng, plan, (3, 8, 14, 20) if is_long else (2, 4, 7, 11))
    rng = Random(f"ids {seed}")  # of its own, so that what was drawn above stays as it was
    if rng.random() < 0.25:
        plan.named = [_thin(rng, topics, election) for _ in range(rng.randint(1, 2 if is_long else 1))]
    if has_operators:
        plan.safety = max(plan.safety, 4_000_000 if is_long else 1_000_000)
        plan.steps = _with_operators(operators, plan, (2, 5, 10) if is_long else (1, 2, 3), grows)
    rng = Random(f"exchanges {seed}")  # of its own, too
    if rng.random() < 0.2:
        plan.published = [_thin(rng, topics, election) for _ in range(rng.randint(1, 2 if is_long else 1))]
    rng = Random(f"retention {seed}")  # of its own, too
    plan.retention = draw_retention(rng, election)
    if plan.retention.forgets:
        plan.steps = sorted([*plan.steps, *_absences(rng, plan)], key=lambda step: step.at)
    if nodes >= 3 and rng.random() < 0.07:
        _outlive(rng, plan)
    plan.group = draw_group(Random(f"group {seed}"), plan)
    rng = Random(f"queues {seed}")  # of its own, too
    if rng.random() < SHARE and plan.group is None:
        _work_on_queues(rng, plan)
        _show_faces(Random(f"faces {seed}"), plan)
    return plan


def _work_on_queues(rng: Random, plan: Plan) -> None:
    """Workers take the place of most of the other clients, so that the seed is no longer than others are."""
    plan.queues = draw_queues(rng, sorted(plan.topics), plan.election_ms)
    topic = plan.queues[0].topic
    plan.producers = [
        replace(producer, topic=topic, partitions=plan.topics[topic], pause_ms=rng.choice((30.0, 80.0)), burst=4)
        for producer in plan.producers[:1]
    ]
    plan.thin, plan.named, plan.published = [], [], []
    plan.consumers, plan.churn = 1, False
    lease = max(queue.settings.lease_ms for queue in plan.queues)
    plan.safety = max(plan.safety, min(6 * lease, 2_000) * 1000)
    if any(kind == "wall_jump" for kind in (step.kind for step in plan.steps)):
        plan.queues = [replace(queue, special=0.0) for queue in plan.queues]  # a time that never comes ends nothing
    if any(queue.settings.retention != "log" for queue in plan.queues):
        plan.retention = replace(plan.retention, size_bytes=0, age_ms=0, trim_ms=plan.election_ms // 5)


def _show_faces(rng: Random, plan: Plan) -> None:
    """What some queues have beside the rest; drawn apart, so that the rest stays as it was."""
    plan.queues = draw_faces(rng, plan.queues)
    if any(queue.settings.dead_letter_topic for queue in plan.queues):
        plan.topics[LETTERS] = rng.choice((1, 1, 2))
    plan.depth = draw_depth(rng, plan.queues[0].topic)
    if plan.depth is not None:
        # Who may only acknowledge with a result cannot make room in a partition that is full.
        halves = [replace(one, handing=replace(one.handing, share=min(0.5, one.handing.share))) for one in plan.queues]
        plan.queues = halves
    if any(queue.handing.share for queue in plan.queues):
        # What comes of messages is as much again.
        plan.producers = [replace(one, pause_ms=2 * one.pause_ms) for one in plan.producers]


def _outlive(rng: Random, plan: Plan) -> None:
    """Little is kept, for a short time; somebody is away meanwhile, and the leader goes while a snapshot is fetched."""
    election = plan.election_ms * 1000
    plan.retention = RetentionPlan(
        size_bytes=rng.choice((200, 400)),
        trim_ms=plan.election_ms // 10,
        part_bytes=rng.choice((1, 200)),
        bytes_per_s=rng.choice((2_000, 10_000)),
    )
    plan.producers = [replace(producer, pause_ms=20.0) for producer in plan.producers]
    plan.min_in_sync = 0
    away = Step(
        rng.randrange(election // 2),
        rng.choice(("isolate", "kill", "power")),
        int(rng.uniform(1.5, 2.5) * election),
        _picks(rng),
    )
    back = away.at + away.length
    plan.safety = max(plan.safety, back + 2 * election + 1_000_000)
    orphaned = [
        Step(back + part * 250_000, "orphaned_install", rng.randrange(election), _picks(rng)) for part in range(4)
    ]
    others = [step for step in plan.steps if step.at > back or step.kind in MEMBER_KINDS]
    plan.steps = sorted([*others, away, *orphaned], key=lambda step: step.at)


def _picks(rng: Random) -> tuple[int, int, int]:
    return rng.randrange(1 << 16), rng.randrange(1 << 16), rng.randrange(1 << 16)


def _absences(rng: Random, plan: Plan) -> list[Step]:
    """Nodes that are away, one way or another, until the others may have forgotten what they lack."""
    return [
        Step(
            rng.randrange(plan.safety),
            rng.choice(("isolate", "kill", "power", "pause")),
            int(plan.election_ms * 1000 * rng.uniform(1, 4)),
            _picks(rng),
        )
        for _ in range(rng.randint(0, 6))
    ]


def _weather(rng: Random) -> Weather:
    latency = rng.choice(((100, 1_500), (50, 300), (500, 20_000), (2_000, 8_000)))
    weather = Weather(latency=latency, call_loss=rng.choice((0.0, 0.0, 0.02, 0.1)))
    if rng.random() < 0.25:
        weather.lost = rng.choice((0.0, 0.01, 0.1))
        weather.doubled = rng.choice((0.0, 0.05, 0.2))
        weather.overtaken = rng.choice((0.0, 0.05, 0.3))
        weather.stale = rng.choice((0.0, 0.02, 0.1))
    return weather


def _producer(rng: Random, topics: dict[str, int], election_ms: int) -> ProducerPlan:
    acks = rng.choices((Acks.ALL, Acks.QUORUM, Acks.LEADER), weights=(6, 5, 1))[0]
    idempotent = acks is not Acks.LEADER and rng.random() < 0.8
    topic = rng.choice(sorted(topics))
    return ProducerPlan(
        topic=topic,
        partitions=topics[topic],
        acks=acks,
        idempotent=idempotent,
        in_flight=rng.choice((1, 3, 8)) if idempotent else 1,
        pause_ms=rng.choice((20.0, 80.0, 300.0)),
        burst=rng.choice((1, 3, 6)),
        delivery_ms=election_ms * rng.choice((3, 10)),
        request_ms=election_ms * rng.choice((1, 3)),
    )


def _thin(rng: Random, topics: dict[str, int], election_ms: int) -> ThinPlan:
    topic = rng.choice(sorted(topics))
    return ThinPlan(
        topic=topic,
        partitions=topics[topic],
        acks=rng.choice((Acks.ALL, Acks.QUORUM)),
        pause_ms=rng.choice((10.0, 50.0)),
        timeout_ms=int(election_ms * rng.choice((0.5, 2))),
    )


def _with_operators(rng: Random, plan: Plan, counts: tuple[int, ...], grows: bool) -> list[Step]:
    """The plan's steps, and those of operators. A disk that is lost is as much as a group can bear."""
    kinds = [kind for kind in MEMBER_KINDS if kind != "join" and rng.random() < 0.6] or ["move"]
    too_much = ("lost_tail", "corrupt_log") if "wipe" in kinds else ()
    steps = [step for step in plan.steps if step.kind not in too_much]
    if grows:
        steps.append(Step(rng.randrange(plan.safety // 2), "join", 0, _picks(rng)))
    for _ in range(rng.choice(counts)):
        length = int(plan.election_ms * 1000 * rng.uniform(0.1, 3.0))
        picks = _picks(rng)
        steps.append(Step(rng.randrange(plan.safety), rng.choice(kinds), length, picks))
    return sorted(steps, key=lambda step: step.at)


def _steps(rng: Random, plan: Plan, counts: tuple[int, ...]) -> list[Step]:
    kinds = [kind for kind in KINDS if rng.random() < rng.choice((0.1, 0.3, 0.6))]
    if not kinds:
        return []
    steps = []
    for _ in range(rng.choice(counts)):
        kind = rng.choice(kinds)
        length = int(plan.election_ms * 1000 * rng.choice((0.05, 0.5, 1.0, 1.5, 3.0)) * rng.uniform(0.5, 1.5))
        picks = _picks(rng)
        steps.append(Step(rng.randrange(plan.safety), kind, length, picks))
    return sorted(steps, key=lambda step: step.at)
