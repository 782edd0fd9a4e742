"""O1. The committed offset of a partition is a register: an answer tells what some commit wrote that was not surely
refused, and that no other commit had replaced before the question; nothing only where nothing was committed before.

Each answer is held against all commits by their times alone, which is less than a search for one order of all
operations, and enough for offsets that only grow.
"""

from __future__ import annotations

from raftmq.chaos.checks.findings import Findings, seconds
from raftmq.chaos.group_events import NOTHING, Commit, Group, Read
from raftmq.chaos.history import NEVER, History, Outcome


def check(history: History) -> Findings:
    found = Findings()
    for group in history.groups.values():
        for partition in group.partitions:
            _check(group, partition, found)
    return found


def _check(group: Group, partition: str, found: Findings) -> None:
    by_offset: dict[int, list[Commit]] = {}
    for commit in group.commits_of(partition, Outcome.OK, Outcome.INFO):
        by_offset.setdefault(commit.offset, []).append(commit)
    accepted = sorted(group.commits_of(partition, Outcome.OK), key=lambda one: one.returned)
    before: list[Commit] = []
    for read, offset in sorted(group.reads_of(partition), key=lambda one: one[0].invoked):
        while len(before) < len(accepted) and accepted[len(before)].returned < read.invoked:
            before.append(accepted[len(before)])
        found.examined += 1
        last = max(before, key=lambda one: one.invoked, default=None)
        said = f"{group.name}, {partition}: asked at {seconds(read.invoked)}, told {offset}"
        if offset == NOTHING:
            if last is not None:
                found.add(f"{said.replace('told -1', 'told nothing')}, though {last.offset} was committed before")
        elif not (known := _known(by_offset.get(offset, []), read)):
            found.add(f"{said}, which nobody committed")
        elif last is not None and all(_ended(one) < last.invoked for one in known):
            found.add(f"{said}, which {last.offset}, committed at {seconds(last.returned)}, had replaced")


def _ended(commit: Commit) -> int:
    """What nobody knows may count at any time after it was asked for."""
    return commit.returned if commit.outcome == Outcome.OK else NEVER


def _known(commits: list[Commit], read: Read) -> list[Commit]:
    """Those that can be what was read."""
    return [one for one in commits if one.invoked < read.returned]
