"""Processes that are given little of a processor. No root is needed.

Proof: for how long the process could not run. Stopped, that is the time between the two signals, as a share of all
time; beside hogs it is how long its main thread waited for the processor, as the kernel's scheduler counted, as a share
of the time in which it had something to do.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from raftmq.chaos.arena import Means
from raftmq.chaos.faults.base import Fault, NotAsPlanned, named
from raftmq.chaos.plans import Starve
from raftmq.ids import NodeId

LEAST_SHARE, LEAST_SECONDS = 0.4, 0.2
"""Less than this was no starvation; and a share of next to nothing says nothing."""


class StarveFault(Fault[Starve]):
    _targets: tuple[NodeId, ...] = ()

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self._pids: dict[NodeId, int] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._hogs: list[subprocess.Popen[bytes]] = []
        self._stopped_s: dict[NodeId, float] = {}
        self._before: dict[NodeId, tuple[int, int]] = {}
        self._began = 0.0

    @classmethod
    def available(cls, plan: Starve, means: Means) -> str | None:
        if plan.manner == "hogs" and len(os.sched_getaffinity(0)) < 2:
            return "with one processor only, hogs would starve all nodes and the experiment itself"
        return None

    @property
    def title(self) -> str:
        return f"starve {named(self._targets) or self.plan.target} ({self.plan.manner})"

    async def inject(self) -> None:
        processes = self.arena.processes
        found = {node: processes.pid(node) for node in self.arena.choose(self.plan.target)}
        self._pids = {node: pid for node, pid in found.items() if pid is not None}
        if not self._pids:
            raise NotAsPlanned(f"none of the nodes meant by '{self.plan.target}' runs")
        self._targets = tuple(self._pids)
        self._began = time.monotonic()
        if self.plan.manner == "throttle":
            self._tasks = [asyncio.create_task(self._throttle(node, pid)) for node, pid in self._pids.items()]
            return
        cpu = max(os.sched_getaffinity(0))
        for node, pid in self._pids.items():
            self._before[node] = _ran_and_waited_ns(pid)
            _pin(pid, {cpu})
        for _ in range(self.plan.hogs):
            hog = subprocess.Popen([self.arena.python, "-c", "while True: pass"])  # noqa: ASYNC220, S603
            os.sched_setaffinity(hog.pid, {cpu})
            self._hogs.append(hog)

    async def _throttle(self, node: NodeId, pid: int) -> None:
        with suppress(ProcessLookupError):  # it ended by itself: the last reading will tell
            while True:
                os.kill(pid, signal.SIGSTOP)
                stopped = time.monotonic()
                try:
                    await asyncio.sleep(self.plan.stop_ms / 1000)
                finally:
                    os.kill(pid, signal.SIGCONT)
                    self._stopped_s[node] = self._stopped_s.get(node, 0.0) + time.monotonic() - stopped
                await asyncio.sleep(self.plan.run_ms / 1000)

    async def heal(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        lasted = time.monotonic() - self._began
        stalled_s = dict(self._stopped_s)
        shares = {node: stopped / lasted for node, stopped in self._stopped_s.items()}
        for node, (ran_before, waited_before) in self._before.items():
            pid = self._pids[node]
            with suppress(OSError):  # it ended by itself
                ran, waited = _ran_and_waited_ns(pid)
                _pin(pid, os.sched_getaffinity(0))
                shares[node] = (waited - waited_before) / max(1, ran - ran_before + waited - waited_before)
                stalled_s[node] = (waited - waited_before) / 1e9
        for hog in self._hogs:
            hog.kill()
            await asyncio.to_thread(hog.wait)
        said = {str(node): round(share, 2) for node, share in shares.items()}
        self.proof.evidence |= {"seconds": round(lasted, 1), "share_of_time_stalled": said}
        enough = bool(shares) and min(stalled_s.values()) >= LEAST_SECONDS
        self.proof.fired = enough and min(shares.values()) >= LEAST_SHARE


def _ran_and_waited_ns(pid: int) -> tuple[int, int]:
    """For how long a process's main thread has run, and has waited for a processor, since its start. Raises OSError."""
    ran, waited, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
    return int(ran), int(waited)


def _pin(pid: int, cpus: set[int]) -> None:
    """Let all threads of a process run on some processors only. Raises OSError."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(ProcessLookupError):  # a thread that ends meanwhile
            os.sched_setaffinity(int(thread.name), cpus)
