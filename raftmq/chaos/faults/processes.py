"""Processes that die, or stop for a while."""

from __future__ import annotations

import asyncio
from pathlib import Path

from raftmq.chaos.faults.base import Fault, NotAsPlanned, named
from raftmq.chaos.plans import Kill, Pause
from raftmq.ids import NodeId


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


def _state(pid: int | None) -> str:
    """The letter that the kernel has for a process's state; "-" for none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "-"
