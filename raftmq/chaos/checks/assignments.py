"""C3. Every partition is assigned to distinct nodes that the cluster knows, never to fewer than its topic asks for, and
in the end to exactly as many.
"""

from __future__ import annotations

from raftmq.chaos.checks.findings import Findings, seconds
from raftmq.chaos.history import History, Metadata


def check(history: History) -> Findings:
    found = Findings()
    judged: set[tuple[int, bool]] = set()
    for one in history.metadata:
        if (
            one.version,
            one.is_last,
        ) not in judged:  # nodes that serve one version say the same: another check's affair
            judged.add((one.version, one.is_last))
            _judge(found, one)
    return found


def _judge(found: Findings, one: Metadata) -> None:
    for name, topic in sorted(one.topics.items()):
        for partition, replicas in enumerate(topic.replicas):
            found.examined += 1
            where = f"{name}/{partition}, in metadata {one.version} at {seconds(one.time)},"
            if len(set(replicas)) != len(replicas):
                found.add(f"{where} is assigned to one node twice: {list(replicas)}")
            if unknown := [node for node in replicas if node not in one.nodes]:
                found.add(f"{where} is assigned to nodes that nobody knows: {unknown}")
            # More of them while one is replaced.
            if len(replicas) < topic.factor or (one.is_last and len(replicas) > topic.factor):
                found.add(f"{where} has {len(replicas)} replicas, {topic.factor} are asked for")
