"""The loads that a cluster is put under. Each writes every operation, and its outcome, into the history."""

from __future__ import annotations

from raftmq.chaos.experiment import AskLatest, Churn, Consume, ConsumerGroup, Produce, WorkloadPlan, WorkQueue, Zombie
from raftmq.chaos.workloads import churn, consume, group, produce, work_queue, zombie
from raftmq.chaos.workloads.base import Load


def start(plan: WorkloadPlan, load: Load, number: int, seed: int) -> None:
    """Start one workload's tasks; they end when ``load.stopping`` is set. `number`: its place in the experiment."""
    match plan:
        case Produce():
            produce.start(plan, load, number)
        case Consume():
            consume.start_consumers(plan, load, number)
        case AskLatest():
            consume.start_latest(plan, load, number)
        case Churn():
            churn.start(plan, load, number, seed)
        case Zombie():
            zombie.start(plan, load, number)
        case ConsumerGroup():
            group.start(plan, load, number, seed)
        case WorkQueue():
            work_queue.start(plan, load, number, seed)
