"""C6. A node's process is told from all others by the node's number and its count of starts: no two processes serve
under the same two, and the count grows from one to the next.
"""

from __future__ import annotations

from raftmq.chaos.checks.findings import Findings, seconds
from raftmq.chaos.history import History


def check(history: History) -> Findings:
    found = Findings()
    processes: dict[tuple[int, int], int] = {}
    newest: dict[int, int] = {}
    for one in history.metadata:
        found.examined += 1
        process = processes.setdefault((one.node, one.boot), one.process)
        if process != one.process:
            found.add(
                f"processes {process} and {one.process} both served as start {one.boot} of node {one.node}, the latter "
                f"at {seconds(one.time)}"
            )
        if one.boot < newest.get(one.node, 0):
            found.add(
                f"node {one.node} served as its start {one.boot} at {seconds(one.time)}, after start {newest[one.node]}"
            )
        newest[one.node] = max(one.boot, newest.get(one.node, 0))
    return found
