"""O4. A partition has one owner: no two members are told to have it under one epoch, and nobody is told so before the
last moment at which the member before was given its records or had a commit of it accepted.
"""

from __future__ import annotations

from raftmq.chaos.checks.findings import Findings, seconds
from raftmq.chaos.group_events import Group, Ownership
from raftmq.chaos.history import History, Outcome


def check(history: History) -> Findings:
    found = Findings()
    for group in history.groups.values():
        for partition in group.partitions:
            _check(group, partition, found)
    return found


def _check(group: Group, partition: str, found: Findings) -> None:
    owned = [one for one in group.owned if one.partition == partition]
    acts = [(one.time, one.member) for one in group.given if one.partition == partition]
    acts += [(one.invoked, one.member) for one in group.commits_of(partition, Outcome.OK)]
    by_epoch: dict[int, Ownership] = {}
    for one in owned:
        found.examined += 1
        other = by_epoch.setdefault(one.epoch, one)
        if other.member != one.member:
            found.add(f"{group.name}, {partition}: {other.member} and {one.member} have it under epoch {one.epoch}")
    place = 0
    for time, member in sorted(acts):
        while place < len(owned) and owned[place].time <= time:
            place += 1
        found.examined += 1
        owner = owned[place - 1] if place else None
        if owner is None or owner.member != member:
            since = f", and {owner.member} has it since {seconds(owner.time)}" if owner else ""
            found.add(f"{group.name}, {partition}: {member} reads or commits at {seconds(time)}{since}")
