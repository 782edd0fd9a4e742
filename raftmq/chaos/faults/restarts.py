"""Nodes that are restarted in order, as an operator does it."""

from __future__ import annotations

import contextlib
import re
from typing import Any

from raftmq.chaos.faults.base import Fault
from raftmq.chaos.plans import RollingRestart
from raftmq.ids import NodeId

READY_SECONDS = 60.0
_SAID = re.compile(r"event='(starting|stopping|leadership began|leadership ended)'(?: group=(\d+))?")


class RollingRestartFault(Fault[RollingRestart]):
    """Proof: every process ended by itself when it was told to, with status 0, and by its own log it had handed over
    before what it led; and some of them led something.
    """

    @property
    def title(self) -> str:
        return "rolling restart"

    async def inject(self) -> None:
        rounds = [await self._restart(node) for node in self.arena.nodes]
        self.proof.evidence["rounds"] = rounds
        self.proof.fired = sum(one["led"] for one in rounds) > 0 and all(
            one["by_itself"] and one["status"] == 0 and not one["kept"] and one["pid"] != one["new_pid"]
            for one in rounds
        )
        wrong = [f"node {one['node']} ended with status {one['status']}" for one in rounds if one["by_itself"]
                 and one["status"]]  # fmt: skip
        self.proof.violation = ", ".join(wrong)

    async def _restart(self, node: NodeId) -> dict[str, Any]:
        processes = self.arena.processes
        before = processes.pid(node)
        by_itself = await processes.stop(node)
        status = processes.exit_status(node)
        led, kept = handed_over(processes.log_file(node).read_text(errors="replace"))
        await processes.start(node)
        # A cluster that does not settle in time is for the checks to judge.
        with contextlib.suppress(Exception):
            await processes.wait_ready(timeout=READY_SECONDS)
        return {
            "node": node, "pid": before, "by_itself": by_itself, "status": status, "led": led, "kept": kept,
            "new_pid": processes.pid(node),
        }  # fmt: skip

    async def heal(self) -> None:
        for node in self.arena.nodes:
            if self.arena.processes.pid(node) is None:
                await self.arena.processes.start(node)


def handed_over(log: str) -> tuple[int, int]:
    """From a node's log to the end of its last process: how many groups it led when it was told to stop, and how many
    of these it led to its end. All that it led where it was never told.
    """
    leads: set[str] = set()
    led: set[str] | None = None
    for said, group in _SAID.findall(log):
        match said:
            case "starting":
                leads, led = set(), None
            case "stopping":
                led = set(leads)
            case "leadership began":
                leads.add(group)
            case _:
                leads.discard(group)
    if led is None:
        return len(leads), len(leads)
    return len(led), len(led & leads)
