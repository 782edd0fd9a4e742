"""An experiment's file: what cluster, what load, which faults and when, which properties.

experiment = load(find("kill-leader"))
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

import yaml
from pydantic import Field, ValidationError, model_validator

from raftmq.chaos import checks
from raftmq.chaos.plans import FaultPlan, Model, Timed
from raftmq.config import ClusterConfig

FOLDER = Path("chaos")
"""Where experiments are found by name: of the current directory, else of the source tree this package lies in."""


class ExperimentError(Exception):
    """A file cannot be used. ``problems``: a line for each cause, with its path in the file first."""

    def __init__(self, source: str, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n  ".join([f"{source} cannot be used:", *problems]))


class ClusterPlan(Model):
    nodes: Annotated[int, Field(ge=1, le=7)] = 3
    partitions: Annotated[int, Field(ge=1, le=64)] = 4
    replicas: Annotated[int, Field(ge=1, le=7)] = 3
    min_in_sync: Annotated[int, Field(ge=1, le=7)] | None = None
    """None: the majority of the replicas."""
    retention_bytes: Annotated[int, Field(ge=0)] = 0
    """Of each partition of the load's topic; 0: nothing is removed."""
    snapshot_bytes_per_s: Annotated[int, Field(ge=1024)] | None = None
    """None: as the configuration has it."""
    heartbeat_interval_ms: Annotated[int, Field(ge=1)] = 100
    election_timeout_ms: Annotated[int, Field(ge=1)] = 1000
    session_timeout_ms: Annotated[int, Field(ge=1)] = 6000
    shutdown_timeout_ms: Annotated[int, Field(ge=1)] = 10_000

    def like(self, config: ClusterConfig) -> Self:
        """The same topic on as many nodes, with the same timeouts, as a cluster.yml has."""
        times = config.timeouts
        return self.model_copy(
            update={
                "nodes": len(config.nodes),
                "heartbeat_interval_ms": times.heartbeat_interval_ms,
                "election_timeout_ms": times.election_timeout_ms,
                "session_timeout_ms": times.session_timeout_ms,
                "shutdown_timeout_ms": times.shutdown_timeout_ms,
            }
        )


class Produce(Model):
    """Producers of records with unique values."""

    workload: Literal["produce"]
    producers: Annotated[int, Field(ge=1, le=64)] = 2
    rate: Annotated[int, Field(ge=1, le=100_000)] = 200
    """Records a second, of all producers together."""
    keys: Annotated[int, Field(ge=1)] = 64
    batch: Annotated[int, Field(ge=1, le=1000)] = 1
    """Records handed in together, to be stored all or none."""
    value_bytes: Annotated[int, Field(ge=0, le=100_000)] = 100
    idempotent: bool = True
    acks: Literal["all", "quorum"] = "all"
    delivery_timeout_ms: Annotated[int, Field(ge=100)] = 20_000


class Consume(Model):
    """Consumers, each of which reads every partition from the beginning."""

    workload: Literal["consume"]
    consumers: Annotated[int, Field(ge=1, le=64)] = 1


class AskLatest(Model):
    """Clients that ask where the partitions end."""

    workload: Literal["latest"]
    every_ms: Annotated[int, Field(ge=10)] = 250


class Churn(Model):
    """Topics made, listed and deleted, a few names over and over."""

    workload: Literal["churn"]
    clients: Annotated[int, Field(ge=1, le=16)] = 3
    names: Annotated[int, Field(ge=1, le=64)] = 4
    every_ms: Annotated[int, Field(ge=10)] = 300


class Zombie(Model):
    """A producer whose successor has taken over its id, and which does not know and goes on."""

    workload: Literal["zombie"]
    takeover_ms: Annotated[int, Field(ge=100)] = 3000
    every_ms: Annotated[int, Field(ge=5)] = 50


class WorkQueue(Model):
    """Workers of a queue group over the load's topic, each with a client of its own."""

    workload: Literal["work-queue"]
    workers: Annotated[int, Field(ge=1, le=64)] = 3
    late: Annotated[int, Field(ge=0, le=64)] = 1
    """Workers that sleep past their lease, and then acknowledge."""
    deserters: Annotated[int, Field(ge=0, le=64)] = 1
    """Workers that take messages and say nothing of them, as those do that die."""
    lease_ms: Annotated[int, Field(ge=100)] = 3000
    attempts_max: Annotated[int, Field(ge=1)] = 4
    ordered: bool = False
    """By key."""


class ConsumerGroup(Model):
    """Members of a consumer group over the load's topic."""

    workload: Literal["group"]
    members: Annotated[int, Field(ge=0, le=64)] = 3
    """They leave after a while, and others join."""
    zombies: Annotated[int, Field(ge=0, le=64)] = 1
    """They stay, are now and then paused for longer than their session, and commit when they wake up."""
    life_ms: Annotated[int, Field(ge=100)] = 8000
    """How long a member stays, on the average."""
    session_timeout_ms: Annotated[int, Field(ge=1000)] = 2000


WorkloadPlan = Annotated[
    Produce | Consume | AskLatest | Churn | Zombie | WorkQueue | ConsumerGroup, Field(discriminator="workload")
]


class Minimum(Model):
    """A run with fewer is INVALID, and so is one whose faults fired less often."""

    acknowledged: Annotated[int, Field(ge=0)] = 500
    polled: Annotated[int, Field(ge=0)] = 100
    in_faults: Annotated[int, Field(ge=0)] = 20
    """Records sent while a fault was active."""
    faults: Annotated[int, Field(ge=0)] = 1


class BoundsPlan(Model):
    """Seconds after the last fault."""

    leader_s: Annotated[float, Field(gt=0)] = 15
    acknowledged_s: Annotated[float, Field(gt=0)] = 15


DEFAULT_CHECKS = (
    "offset-agreement", "no-duplicate", "no-lost-write", "delivered", "no-phantom", "real-time-order", "producer-order",
    "poll-order", "no-dirty-read", "latest-offset", "epoch-order", "log-start", "replicas-equal", "metadata-versions",
    "assignments", "incarnations", "resources", "liveness",
)  # fmt: skip
DEFAULT_LOAD: tuple[WorkloadPlan, ...] = (
    Produce(workload="produce"),
    Consume(workload="consume"),
    AskLatest(workload="latest"),
)


class Experiment(Model):
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,60}$")]
    shows: str
    """One sentence: what a PASS of it shows."""
    cluster: ClusterPlan = ClusterPlan()
    workloads: Annotated[tuple[WorkloadPlan, ...], Field(strict=False, min_length=1)] = DEFAULT_LOAD
    faults: Annotated[tuple[FaultPlan, ...], Field(strict=False)] = ()
    duration: Annotated[float, Field(gt=0, le=24 * 3600)] = 30
    """Seconds of load with faults. Whatever is not healed by then is healed at its end."""
    settle: Annotated[float, Field(ge=1, le=600)] = 10
    """Seconds of load after it, without faults."""
    checks: Annotated[tuple[str, ...], Field(strict=False, min_length=1)] = DEFAULT_CHECKS
    also: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Properties beside those of ``checks``."""
    minimum: Minimum = Minimum()
    bounds: BoundsPlan = BoundsPlan()

    @model_validator(mode="after")
    def _check_relations(self) -> Self:
        problems = [f"{key}[{i}]: there is no check '{name}'; there are {', '.join(checks.NAMES)}"
                    for key, names in (("checks", self.checks), ("also", self.also))
                    for i, name in enumerate(names) if name not in checks.NAMES]  # fmt: skip
        for i, plan in enumerate(self.faults):
            target = getattr(plan, "target", None)
            if isinstance(target, int) and target > self.cluster.nodes:
                problems.append(f"faults[{i}].target: there is no node {target}")
            fewest = plan.fewest_nodes(self.cluster.replicas)
            if fewest > self.cluster.nodes:
                problems.append(
                    f"faults[{i}]: '{plan.fault}' needs {fewest} nodes or more to touch anything; this cluster has "
                    f"{self.cluster.nodes}"
                )
            begin = plan.at if plan.repeat is None else plan.repeat.begin
            if begin is not None and begin >= self.duration:
                problems.append(f"faults[{i}]: begins at {begin} s, after the end of the load at {self.duration} s")
        if problems:
            raise ValueError("\n".join(problems))
        return self


class Occurrence(NamedTuple):
    """One time that one fault is injected; seconds from the start of the load."""

    begin: float
    end: float
    plan: FaultPlan


def schedule(faults: Sequence[FaultPlan], duration: float, seed: int) -> list[Occurrence]:
    """When what happens, in order. Equal for equal arguments."""
    found: list[Occurrence] = []
    for number, plan in enumerate(faults):
        found += [Occurrence(a, min(b, duration), plan) for a, b in _times(plan, random.Random(f"{seed}/{number}"))
                  if a < duration]  # fmt: skip
    return sorted(found, key=lambda occurrence: occurrence.begin)


def _times(plan: Timed, rng: random.Random) -> Iterable[tuple[float, float]]:
    if plan.repeat is None:
        assert plan.at is not None
        yield plan.at, plan.at + plan.lasts
        return
    now = plan.repeat.begin
    while now < plan.repeat.end:
        lasts = rng.uniform(*plan.repeat.lasts)
        yield now, now + lasts
        now += lasts + rng.uniform(*plan.repeat.pause)


def folder() -> Path:
    """Where the experiments are: ``chaos`` here, else beside the package."""
    return FOLDER if FOLDER.is_dir() else Path(__file__).parents[2] / FOLDER


def find(name: str) -> Path:
    """The file of a name or path. Raises ExperimentError naming what there is."""
    if name.endswith((".yml", ".yaml")):
        return Path(name)
    path = folder() / f"{name}.yml"
    if not path.exists():
        known = ", ".join(sorted(file.stem for file in folder().glob("*.yml")))
        raise ExperimentError(
            name, [f"there is no experiment of this name in {folder()}; there are: {known or 'none'}"]
        )
    return path


def load(path: Path) -> Experiment:
    """Read and check a file. Raises ExperimentError."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ExperimentError(str(path), [error.strerror or str(error)]) from error
    return parse(text, source=str(path))


def parse(text: str, *, source: str) -> Experiment:
    """Check the text of a file. Raises ExperimentError."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ExperimentError(source, [" ".join(str(error).split())]) from error
    try:
        return Experiment.model_validate(document)
    except ValidationError as error:
        raise ExperimentError(source, list(_explain(error))) from error


def changed(experiment: Experiment, changes: Mapping[str, object]) -> Experiment:
    """The same with other values of some keys. Raises ExperimentError."""
    try:
        return Experiment.model_validate(experiment.model_dump(mode="json") | dict(changes))
    except ValidationError as error:
        raise ExperimentError(f"{experiment.name}, changed like this,", list(_explain(error))) from error


def _explain(error: ValidationError) -> Iterable[str]:
    for detail in error.errors():
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in detail["loc"]).lstrip(".")
        message = detail["msg"].removeprefix("Value error, ")
        yield from (f"{path}: {line}" if path else line for line in message.splitlines())
