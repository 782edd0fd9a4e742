"""Faults of the cluster as a whole: an impostor, and leaders that never stay."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

from raftmq.chaos.arena import TOPIC
from raftmq.chaos.faults.base import Fault, NotAsPlanned, named
from raftmq.chaos.plans import LeaderStorm, Twin
from raftmq.config import dump
from raftmq.errors import RaftmqError
from raftmq.ids import NodeId

TWIN_HOST = "127.0.0.2"
STARTS_SECONDS = 15


class TwinFault(Fault[Twin]):
    """The twin has the same cluster.yml but for what it binds, so that its seed is the cluster's own. Proof: it runs,
    and says what it waits for. It must never serve: that would be a second node with one id.
    """

    means = "a second process"
    _process: subprocess.Popen[bytes] | None = None
    _target: NodeId | None = None

    @property
    def title(self) -> str:
        return f"a twin of {named((self._target,)) if self._target else self.plan.target}"

    @property
    def _directory(self) -> Path:
        return self.arena.folder / f"twin-{self._target}"

    async def inject(self) -> None:
        (node,) = self.arena.choose(self.plan.target)
        self._target = node
        self._directory.mkdir(exist_ok=True)
        config = self.arena.topology.config
        nodes = tuple(
            one.model_copy(update={"bind": TWIN_HOST, "data": self._directory.resolve() / "data"})
            if one.id == node
            else one
            for one in config.nodes
        )
        file = self._directory / "cluster.yml"
        file.write_text(dump(config.model_copy(update={"nodes": nodes})))
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220, S603  done in a millisecond; arguments are ours
                [self.arena.python, "-m", "raftmq", "serve", "--node", str(node), "--config", str(file)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        for _ in range(STARTS_SECONDS * 10):
            if "disk opened" in self._log() or self._process.poll() is not None:
                break
            await asyncio.sleep(0.1)
        self.proof.fired = "disk opened" in self._log() and self._process.poll() is None

    async def heal(self) -> None:
        if self._process is None:
            return
        self.proof.evidence["ran_to_the_end"] = self._process.poll() is None
        self._process.kill()
        await asyncio.to_thread(self._process.wait)
        self.proof.evidence["said"] = self._log().rstrip().rpartition("\n")[2][:300]
        if "serving clients" in self._log():
            self.proof.violation = f"a second process with the id of node {self._target} served clients"

    def _log(self) -> str:
        return (self._directory / "log").read_text(errors="replace")


class LeaderStormFault(Fault[LeaderStorm]):
    """Proof: transfers that succeeded."""

    means = "operations"

    _task: asyncio.Task[None] | None = None
    _moved = 0
    _refused = 0

    @property
    def title(self) -> str:
        return f"move leaders every {self.plan.every_ms} ms"

    async def inject(self) -> None:
        self._task = asyncio.create_task(self._storm(), name="leader-storm")

    async def _storm(self) -> None:
        partitions = len((await self.arena.admin.admin.describe_topic(TOPIC)).partitions)
        while True:
            for partition in range(partitions):
                try:
                    await self.arena.admin.cluster.transfer_leader(TOPIC, partition, timeout_ms=2_000)
                    self._moved += 1
                except RaftmqError:
                    self._refused += 1
                await asyncio.sleep(self.plan.every_ms / 1000)

    async def heal(self) -> None:
        if self._task is None:
            raise NotAsPlanned("the storm never began")
        self._task.cancel()
        await asyncio.wait([self._task])
        self.proof.evidence = {"moved": self._moved, "refused": self._refused}
        self.proof.fired = self._moved > 0
