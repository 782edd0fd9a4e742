"""L14. When all is quiet, the replicas of a partition are equal: at one log index they have one hash over everything
up to it, and what the last reading gave ends where they end.
"""

from __future__ import annotations

from raftmq.chaos.checks.findings import Findings
from raftmq.chaos.history import History, Replica


def check(history: History) -> Findings:
    found = Findings()
    by_partition: dict[str, list[Replica]] = {}
    for replica in history.replicas:
        by_partition.setdefault(replica.partition, []).append(replica)
    for partition, replicas in sorted(by_partition.items()):
        name = partition or "the controller"
        first = replicas[0]
        for other in replicas[1:]:
            found.examined += 1
            if (other.log_index, other.chain) != (first.log_index, first.chain):
                found.add(
                    f"{name}: node {first.node} has hash {first.chain} at index {first.log_index}, "
                    f"node {other.node} has {other.chain} at index {other.log_index}"
                )
    for partition_number, log in sorted(history.final.items()):
        partition = history.name(partition_number)
        found.examined += 1
        end = log.offset[-1] + 1 if log.offset else log.start
        if end != log.high_watermark:
            found.add(f"{partition}: the last reading ended at {end}, the high watermark is {log.high_watermark}")
        for replica in by_partition.get(partition, ()):
            if replica.end < end:
                found.add(f"{partition}: node {replica.node} ends at {replica.end}, the last reading at {end}")
    return found
