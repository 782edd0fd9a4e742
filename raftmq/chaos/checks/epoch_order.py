"""L11, C4. Leader epochs do not fall along a partition's offsets, a record keeps the epoch that its producer was told,
no two nodes say of themselves that they lead a partition in one epoch, and none goes back to an earlier one.
"""

from __future__ import annotations

from raftmq.chaos.checks.findings import Findings, seconds
from raftmq.chaos.history import History, Outcome


def check(history: History) -> Findings:
    found = Findings()
    _along_offsets(history, found)
    _as_acknowledged(history, found)
    _one_leader(history, found)
    return found


def _along_offsets(history: History, found: Findings) -> None:
    for partition, log in sorted(history.final.items()):
        newest = 0
        for offset, _, epoch in log.rows():
            found.examined += 1
            if epoch < newest:
                found.add(f"{history.name(partition)} offset {offset}: epoch {epoch} after epoch {newest}")
            newest = max(newest, epoch)


def _as_acknowledged(history: History, found: Findings) -> None:
    sends = history.sends
    for row, outcome in enumerate(sends.outcome):
        log = history.final.get(sends.partition[row])
        if outcome != Outcome.OK or sends.offset[row] < 0 or sends.epoch[row] < 0 or log is None or not log.offset:
            continue
        place = sends.offset[row] - log.offset[0]
        if 0 <= place < len(log.offset) and log.value[place] == sends.value[row]:
            found.examined += 1
            if log.epoch[place] != sends.epoch[row]:
                found.add(
                    f"{history.name(sends.partition[row])} offset {sends.offset[row]}: acknowledged in epoch "
                    f"{sends.epoch[row]}, stored with epoch {log.epoch[place]}"
                )


def _one_leader(history: History, found: Findings) -> None:
    # By group: a topic made anew under an old name counts its epochs from the start.
    leaders: dict[tuple[int, int], int] = {}
    newest: dict[tuple[int, int], int] = {}
    for observation in history.observations:
        for partition, (term, _, group) in observation.leads.items():
            found.examined += 1
            other = leaders.setdefault((group, term), observation.node)
            if other != observation.node:
                found.add(
                    f"{partition}: nodes {other} and {observation.node} both led epoch {term}, the "
                    f"latter at {seconds(observation.time)}"
                )
            before = newest.get((observation.node, group), 0)
            if term < before:
                found.add(
                    f"{partition}: node {observation.node} led epoch {term} at {seconds(observation.time)}, after "
                    f"epoch {before}"
                )
            newest[observation.node, group] = max(term, before)
