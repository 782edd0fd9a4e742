"""How busy the machine is, once a second into the history: so that nobody calls a cluster slow where the machine was.

And what the nodes' processes hold of it: threads, files, memory.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from raftmq.chaos.nodes import Processes
from raftmq.chaos.recorder import Recorder

EVERY_S = 1.0
STEP_S = 0.05
_PAGE = 4096


async def watch(processes: Processes, recorder: Recorder) -> None:
    """Until it is cancelled."""
    loop = asyncio.get_running_loop()
    before = _waited_ns(processes)
    while True:
        lag, ends = 0.0, loop.time() + EVERY_S
        while (now := loop.time()) < ends:
            await asyncio.sleep(STEP_S)
            lag = max(lag, loop.time() - now - STEP_S)
        after = _waited_ns(processes)
        # A process that was started meanwhile counts from its start.
        waited = {str(pid): (after[pid] - before.get(pid, 0)) // 1000 for pid in after}
        recorder.write("machine", lag=round(lag * 1e6), waited=waited)
        before = after


def _waited_ns(processes: Processes) -> dict[int, int]:
    """By process id: how long its main thread, a node's event loop, has waited for a processor since its start."""
    found: dict[int, int] = {}
    for node in processes.nodes:
        pid = processes.pid(node)
        with suppress(OSError):  # it has ended
            if pid is not None:
                found[pid] = int(Path(f"/proc/{pid}/schedstat").read_text().split()[1])
    return found


def write_resources(processes: Processes, recorder: Recorder) -> None:
    """What every node that runs holds now."""
    for node in processes.nodes:
        pid = processes.pid(node)
        with suppress(OSError):
            if pid is not None:
                here = Path(f"/proc/{pid}")
                recorder.write(
                    "resources",
                    node=node,
                    threads=len(list((here / "task").iterdir())),
                    files=len(list((here / "fd").iterdir())),
                    memory=int((here / "statm").read_text().split()[1]) * _PAGE,
                )
