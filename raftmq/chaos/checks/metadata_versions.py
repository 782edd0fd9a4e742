"""C1. The metadata that a process serves only gets newer; two nodes that serve the same version say the same; and in
the end all nodes have the same version.
"""

from __future__ import annotations

from raftmq.chaos.checks.findings import Findings, seconds
from raftmq.chaos.history import History, Metadata


def check(history: History) -> Findings:
    found = Findings()
    newest: dict[tuple[int, int], int] = {}
    first: dict[int, Metadata] = {}
    for one in history.metadata:
        if not one.version:
            continue  # a node that has just started knows nothing yet
        found.examined += 1
        before = newest.get((one.node, one.boot), 0)
        if one.version < before:
            found.add(f"node {one.node} served metadata {one.version} at {seconds(one.time)}, after {before}")
        newest[one.node, one.boot] = max(before, one.version)
        other = first.setdefault(one.version, one)
        if (one.topics, one.nodes) != (other.topics, other.nodes):
            found.add(
                f"metadata {one.version} is not the same on node {other.node} (at {seconds(other.time)}) and on node "
                f"{one.node} (at {seconds(one.time)}): {_difference(other, one)}"
            )
    versions = {one.node: one.version for one in history.metadata if one.is_last}
    if len(set(versions.values())) > 1:
        told = ", ".join(f"node {node} {version}" for node, version in sorted(versions.items()))
        found.add(f"in the end nodes serve different metadata: {told}")
    return found


def _difference(one: Metadata, other: Metadata) -> str:
    if one.nodes != other.nodes:
        return f"nodes {list(one.nodes)} and {list(other.nodes)}"
    names = sorted(set(one.topics) | set(other.topics))
    name = next(name for name in names if one.topics.get(name) != other.topics.get(name))
    return f"topic {name} is {one.topics.get(name)} and {other.topics.get(name)}"
