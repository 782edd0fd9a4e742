"""O3. Who has lost a partition commits nothing for it: once another member was told to have it, or has committed for it
under a newer epoch, no commit counts that is asked for afterwards, until the partition is given back.
"""

from __future__ import annotations

from raftmq.chaos.checks.findings import Findings, seconds
from raftmq.chaos.group_events import Group
from raftmq.chaos.history import History, Outcome


def check(history: History) -> Findings:
    found = Findings()
    for group in history.groups.values():
        for partition in group.partitions:
            _by_owner(group, partition, found)
            _by_epoch(group, partition, found)
    return found


def _by_owner(group: Group, partition: str, found: Findings) -> None:
    owned = [one for one in group.owned if one.partition == partition]
    place = 0
    for commit in group.commits_of(partition, Outcome.OK, Outcome.FAIL):
        while place < len(owned) and owned[place].time < commit.invoked:
            place += 1
        found.examined += 1
        owner = owned[place - 1] if place else None
        if commit.outcome == Outcome.OK and owner is not None and owner.member != commit.member:
            found.add(
                f"{group.name}, {partition}: {commit.member} committed {commit.offset} at {seconds(commit.invoked)}, "
                f"though {owner.member} had the partition since {seconds(owner.time)}"
            )


def _by_epoch(group: Group, partition: str, found: Findings) -> None:
    accepted = group.commits_of(partition, Outcome.OK)
    by_return = sorted(accepted, key=lambda one: one.returned)
    newest, done = None, 0
    for commit in accepted:
        while by_return[done].returned < commit.invoked:
            if newest is None or by_return[done].epoch > newest.epoch:
                newest = by_return[done]
            done += 1
        found.examined += 1
        if newest is not None and commit.epoch < newest.epoch and commit.member != newest.member:
            found.add(
                f"{group.name}, {partition}: {commit.member} committed {commit.offset} under epoch {commit.epoch} at "
                f"{seconds(commit.invoked)}, after {newest.member} had under epoch {newest.epoch}"
            )
