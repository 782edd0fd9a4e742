"""L2. A record is stored once. An idempotent producer may retry as it likes; one that is not never sends again what
may already be stored, and what it was told to be NOT_APPLIED is not. So nothing is there twice, whoever sent it.
"""

from __future__ import annotations

from array import array

from raftmq.chaos.checks.findings import Findings
from raftmq.chaos.history import History


def check(history: History) -> Findings:
    found = Findings()
    # By row of the send: 0, or 1 + the offset at which its value was seen first.
    first = array("q", bytes(8 * len(history.sends)))
    for partition, log in sorted(history.final.items()):
        for offset, value, _ in log.rows():
            row = history.sent_row(value)
            if row < 0:
                continue  # a phantom: another check's affair
            found.examined += 1
            if first[row]:
                home = history.name(history.sends.partition[row])
                found.add(
                    f"value {value} is at {home} offset {first[row] - 1} and at {history.name(partition)} {offset}"
                )
            else:
                first[row] = offset + 1
    return found
