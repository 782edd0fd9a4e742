"""What an experiment's file may say of its faults. Times are seconds from the start of the load."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Seconds = Annotated[float, Field(ge=0, le=3600)]
Span = Annotated[tuple[Seconds, Seconds], Field(strict=False)]
"""Least and most, of which one is drawn."""

One = Literal["leader", "follower", "controller", "random"] | Annotated[int, Field(ge=1)]
"""One node: the leader of the load's partition 0, a node that does not lead it, the controller, any, or by id."""
Some = Literal["leader", "follower", "controller", "random", "majority", "all"] | Annotated[int, Field(ge=1)]


class Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Repeat(Model):
    """Again and again: the fault for a time drawn from `lasts`, then peace for one drawn from `pause`."""

    begin: Seconds = 2
    end: Seconds
    lasts: Span
    pause: Span

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.begin >= self.end:
            raise ValueError(f"begin, {self.begin}, must be before end, {self.end}")
        for name, (low, high) in (("lasts", self.lasts), ("pause", self.pause)):
            if low > high or high == 0:
                raise ValueError(f"{name} is [least, most], and most is above 0")
        return self


class Timed(Model):
    """Either once, `at` a time, or by a random schedule that the seed decides."""

    at: Seconds | None = None
    lasts: Seconds = 5
    repeat: Repeat | None = None

    @model_validator(mode="after")
    def _once_or_repeated(self) -> Self:
        if (self.at is None) == (self.repeat is None):
            raise ValueError("say either 'at' or 'repeat'")
        return self

    def fewest_nodes(self, replicas: int) -> int:
        """With fewer nodes it would touch nothing. `replicas`: of each partition of the load."""
        return 2 if getattr(self, "target", None) == "follower" else 1


class Kill(Timed):
    """SIGKILL; started again when healed."""

    fault: Literal["kill"]
    target: Some = "leader"


class Pause(Timed):
    """SIGSTOP; SIGCONT when healed."""

    fault: Literal["pause"]
    target: Some = "leader"


class RollingRestart(Timed):
    """SIGTERM to one node after the other, each waited for and started again."""

    fault: Literal["rolling-restart"]

    def fewest_nodes(self, replicas: int) -> int:
        return 2  # to whom would one hand over?


class Cut(Timed):
    """Links that carry nothing."""

    fault: Literal["cut"]
    target: One = "leader"
    shape: Literal["isolate", "deaf", "mute", "one-link", "halves", "bridge", "ring", "clients"] = "isolate"
    """isolate: all links between the target and its peers. deaf: it hears nobody, mute: nobody hears it. one-link: only
    those between the target and one peer. halves: a minority with the target in it, and the others. bridge: two halves
    that only one node, not the target, is in touch with. ring: every node has two neighbours, so that of five each
    sees another majority. clients: only the links from clients to the target.
    """
    manner: Literal["black-hole", "hold", "refuse"] = "black-hole"
    """black-hole: bytes vanish, connections stay. hold: bytes wait and are delivered when healed. refuse: connections
    are closed and new ones refused.
    """

    def fewest_nodes(self, replicas: int) -> int:
        return {"clients": 1, "halves": 3, "bridge": 3, "ring": 4}.get(self.shape, 2)


class Disturb(Timed):
    """Links that carry, but badly: one of Toxiproxy's toxics on them."""

    fault: Literal["disturb"]
    toxic: Literal["latency", "bandwidth", "slicer", "reset_peer", "limit_data", "slow_close"]
    attributes: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    links: Literal["peers", "clients", "target"] = "peers"
    """peers: all links between nodes. clients: all links from clients. target: those between one node and its peers."""
    target: One = "leader"

    def fewest_nodes(self, replicas: int) -> int:
        return 1 if self.links == "clients" else 2

    @model_validator(mode="after")
    def _can_be_seen(self) -> Self:
        if self.toxic == "latency" and self.attributes.get("latency", 0) <= self.attributes.get("jitter", 0):
            raise ValueError("nothing shows a latency that is not above its jitter")
        return self


class SyncError(Timed):
    """fdatasync and fsync of one node's data fail with EIO. A node that is told so must stop."""

    fault: Literal["sync-error"]
    target: One = "leader"
    count: Annotated[int, Field(ge=1)] = 1


class SlowSync(Timed):
    fault: Literal["slow-sync"]
    target: Some = "leader"
    delay_ms: Annotated[int, Field(ge=1, le=60_000)] = 200


class ReadError(Timed):
    """Reads of one node's tables, blobs and write-ahead logs fail with EIO: of a node that starts, or of one that has
    just started, so that nothing is cached, and serves.
    """

    fault: Literal["read-error"]
    target: One = "follower"
    count: Annotated[int, Field(ge=1)] = 1
    when: Literal["start", "serve"] = "start"


class SlowRead(Timed):
    """The same reads take longer; the node is started anew, so that nothing is cached."""

    fault: Literal["slow-read"]
    target: One = "leader"
    delay_ms: Annotated[int, Field(ge=1, le=60_000)] = 20


class Die(Timed):
    """SIGKILL at one certain point of the way that a record takes to the disk; started again when healed."""

    fault: Literal["die"]
    target: One = "leader"
    where: Literal["before-sync", "after-sync", "in-write"] = "before-sync"
    """before-sync: written, not synced. after-sync: synced, and nobody was told. in-write: half of it is written."""
    after: Annotated[int, Field(ge=1)] = 20
    """How many syncs or writes from the injection on."""


class DiskFull(Timed):
    """A file system of the node's own is filled up (without root: writes are refused by the preloaded library)."""

    fault: Literal["disk-full"]
    target: Annotated[int, Field(ge=1)] = 1
    leave_bytes: Annotated[int, Field(ge=0)] = 0
    """What stays free (root only): a node with little room refuses records, and goes on with all else."""


class PowerCut(Timed):
    """Nothing reaches the disk any more from one moment on, and the node is dead: what was not synced is lost. Every
    node gets a file system of its own (without root: the preloaded library keeps what was synced, and the rest is taken
    back).
    """

    fault: Literal["power-cut"]
    target: Some = "all"


class ClockJump(Timed):
    """The wall clock of one node jumps, and jumps back when healed; its monotonic clock does not."""

    fault: Literal["clock-jump"]
    target: Some = "leader"
    offset_s: Annotated[int, Field(ge=-10 * 365 * 86400, le=10 * 365 * 86400)] = 3600


class ClockRate(Timed):
    """All clocks of a process, the monotonic one too, run faster or slower than true ones. What they gained stays."""

    fault: Literal["clock-rate"]
    target: Some = "leader"
    rate: Annotated[float, Field(ge=0.25, le=4)] = 2.0
    """Seconds that they count in one true second; not 1."""

    @model_validator(mode="after")
    def _differs(self) -> Self:
        if self.rate == 1:
            raise ValueError("a rate of 1 is no fault")
        return self


class Starve(Timed):
    """A process gets little of a processor."""

    fault: Literal["starve"]
    target: Some = "leader"
    manner: Literal["throttle", "hogs"] = "throttle"
    """throttle: stopped most of the time, in turns too short for a pause. hogs: it shares one processor with busy
    loops.
    """
    run_ms: Annotated[int, Field(ge=1, le=1000)] = 15
    stop_ms: Annotated[int, Field(ge=1, le=5000)] = 135
    hogs: Annotated[int, Field(ge=1, le=64)] = 8


class Messages(Timed):
    """What nodes say to each other arrives twice, out of order, or again when it is long out of date."""

    fault: Literal["messages"]
    duplicate: Annotated[int, Field(ge=0, le=1000)] = 0
    """Of 1000 frames, so many."""
    reorder: Annotated[int, Field(ge=0, le=1000)] = 0
    replay: Annotated[int, Field(ge=0, le=1000)] = 0

    def fewest_nodes(self, replicas: int) -> int:
        return 2

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if not (self.duplicate or self.reorder or self.replay):
            raise ValueError("say at least one of duplicate, reorder, replay")
        return self


class Outlive(Timed):
    """A node is away until the logs of all others begin behind what it has. Needs ``cluster.retention_bytes``."""

    fault: Literal["outlive"]
    target: One = "follower"
    manner: Literal["cut", "kill"] = "cut"
    interrupt: Annotated[int, Field(ge=0, le=20)] = 0
    """So often it is killed while it fetches a snapshot; ``cluster.snapshot_bytes_per_s`` makes that long enough."""

    def fewest_nodes(self, replicas: int) -> int:
        return 3  # the others go on meanwhile


class MoveReplicas(Timed):
    """Replicas of the load's partitions move from node to node, one after the other. Needs more nodes than replicas."""

    fault: Literal["move-replicas"]

    def fewest_nodes(self, replicas: int) -> int:
        return replicas + 1


class DrainNode(Timed):
    """Everything is moved off a node; it is taken back when healed. Needs more nodes than replicas."""

    fault: Literal["drain-node"]
    target: One = "random"

    def fewest_nodes(self, replicas: int) -> int:
        return replicas + 1


class SlowConsumers(Timed):
    """Consumers that ask for everything from the beginning, and do not take it."""

    fault: Literal["slow-consumers"]
    consumers: Annotated[int, Field(ge=1, le=1000)] = 20


class Damage(Timed):
    """A node is killed, its files are damaged, and it is started again when healed. It may refuse to start."""

    fault: Literal["damage"]
    target: One = "follower"
    what: Literal["flip", "truncate", "delete", "wipe"] = "flip"
    file: Literal["wal", "sst", "manifest", "current", "marker"] = "wal"


class Twin(Timed):
    """A second process with the id of a node that runs, the same cluster.yml and an empty directory."""

    fault: Literal["twin"]
    target: One = "follower"


class LeaderStorm(Timed):
    """Leadership of every partition is moved, as fast as the cluster lets it."""

    fault: Literal["leader-storm"]
    every_ms: Annotated[int, Field(ge=10)] = 200

    def fewest_nodes(self, replicas: int) -> int:
        return 2


FaultPlan = Annotated[
    Kill | Pause | RollingRestart | Starve | Cut | Disturb | Messages | SyncError | SlowSync | ReadError | SlowRead
    | Die | DiskFull | PowerCut | ClockJump | ClockRate | Damage | Twin | LeaderStorm | SlowConsumers | Outlive
    | MoveReplicas | DrainNode,
    Field(discriminator="fault"),
]  # fmt: skip
