"""Processes that die, stop for a while, or are restarted in order."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from raftmq.chaos.faults.base import Fault, NotAsPlanned, named
from raftmq.chaos.plans import Kill, Pause, RollingRestart
from raftmq.ids import NodeId

READY_SECONDS = 60.0


class KillFault(Fault[Kill]):
    """Proof: the process ids before are gone."""

    _killed: tuple[NodeId, ...] = ()

    @property
    def title(self) -> str:
        return f"kill {named(self._killed) or self.plan.target}"

    async def inject(self) -> None:
        processes = self.arena.processes
        chosen = tuple(node for node in self.arena.choose(self.plan.target) if processes.pid(node) is not None)
        if not chosen:
            raise NotAsPlanned(f"none of the nodes meant by '{self.plan.target}' runs")
        before = {node: processes.pid(node) for node in chosen}
        self._killed = chosen
        await asyncio.gather(*(processes.kill(node) for node in chosen))
        self.proof.evidence["killed"] = {str(node): pid for node, pid in before.items()}
        self.proof.fired = all(pid is not None and not _state(pid).isalpha() for pid in before.values())

    async def heal(self) -> None:
        processes = self.arena.processes
        for node in self._killed:
            if processes.pid(node) is None and node not in self.arena.given_up:
                await processes.start(node)
        self.proof.evidence["restarted"] = {str(node): processes.pid(node) for node in self._killed}


class PauseFault(Fault[Pause]):
    """Proof: the kernel says that the processes are stopped."""

    _paused: tuple[NodeId, ...] = ()

    @property
    def title(self) -> str:
        return f"pause {named(self._paused) or self.plan.target}"

    async def inject(self) -> None:
        processes = self.arena.processes
        chosen = tuple(node for node in self.arena.choose(self.plan.target) if processes.pid(node) is not None)
        if not chosen:
            raise NotAsPlanned(f"none of the nodes meant by '{self.plan.target}' runs")
        self._paused = chosen
        for node in chosen:
            processes.pause(node)
        states: dict[str, str] = {}
        for _ in range(100):
            states = {str(node): _state(processes.pid(node)) for node in chosen}
            if set(states.values()) == {"T"}:
                break
            await asyncio.sleep(0.01)
        self.proof.evidence["states"] = states
        self.proof.fired = set(states.values()) == {"T"}

    async def heal(self) -> None:
        for node in self._paused:
            if self.arena.processes.pid(node) is not None:
                self.arena.processes.resume(node)


class RollingRestartFault(Fault[RollingRestart]):
    """Proof: every node has another process id, and ended by itself when it was told to."""

    @property
    def title(self) -> str:
        return "rolling restart"

    async def inject(self) -> None:
        processes, rounds = self.arena.processes, []
        for node in self.arena.nodes:
            before = processes.pid(node)
            by_itself = await processes.stop(node)
            await processes.start(node)
            # A cluster that does not settle in time is for the checks to judge.
            with contextlib.suppress(Exception):
                await processes.wait_ready(timeout=READY_SECONDS)
            rounds.append({"node": node, "pid": before, "by_itself": by_itself, "new_pid": processes.pid(node)})
        self.proof.evidence["rounds"] = rounds
        self.proof.fired = all(one["pid"] != one["new_pid"] for one in rounds)

    async def heal(self) -> None:
        for node in self.arena.nodes:
            if self.arena.processes.pid(node) is None:
                await self.arena.processes.start(node)


def _state(pid: int | None) -> str:
    """The letter that the kernel has for a process's state; "-" for none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "-"
