"""Nothing piles up: when all is quiet again, the nodes have about as many threads and open files, and as much memory,
as before the first fault. The bounds are wide (twice as much, and 16 threads, 64 files or 512 MiB); the figures tell
more.
"""

from __future__ import annotations

from raftmq.chaos.checks.findings import Findings
from raftmq.chaos.history import History, Resources

_MORE = {"threads": 16, "files": 64, "memory_bytes": 512 << 20}


def check(history: History) -> Findings:
    found = Findings()
    first: dict[int, Resources] = {}
    for one in history.resources:
        before = first.setdefault(one.node, one)
        if before is one:
            continue
        for name, more in _MORE.items():
            was, now = getattr(before, name), getattr(one, name)
            found.examined += 1
            if now > 2 * was + more:
                found.add(f"node {one.node}: {name.replace('_', ' ')} {was:,} before the faults, {now:,} after them")
    return found
