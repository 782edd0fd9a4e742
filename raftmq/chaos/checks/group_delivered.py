"""O5. Nothing is committed that nobody was given: every record below an offset that is asked to be committed was given
to some member of the group before.
"""

from __future__ import annotations

from raftmq.chaos.checks.findings import Findings, seconds
from raftmq.chaos.group_events import Group
from raftmq.chaos.history import History


def check(history: History) -> Findings:
    found = Findings()
    starts = {history.name(partition): log.start for partition, log in history.final.items()}
    for group in history.groups.values():
        for partition in group.partitions:
            if starts.get(partition, 0) == 0:  # what was trimmed nobody can be given
                _check(group, partition, found)
    return found


def _check(group: Group, partition: str, found: Findings) -> None:
    given = [one for one in group.given if one.partition == partition]
    commits = sorted((one for one in group.commits if one.partition == partition), key=lambda one: one.invoked)
    reached, place = 0, 0
    ahead: dict[int, int] = {}
    """What was given beyond a gap: from, to."""
    for commit in commits:
        while place < len(given) and given[place].time <= commit.invoked:
            one = given[place]
            ahead[one.offset] = max(ahead.get(one.offset, 0), one.next_offset)
            place += 1
        for offset in sorted(ahead):
            if offset > reached:
                break
            reached = max(reached, ahead.pop(offset))
        found.examined += 1
        if commit.offset > reached:
            found.add(
                f"{group.name}, {partition}: {commit.member} commits {commit.offset} at {seconds(commit.invoked)}, and "
                f"nobody was given offset {reached}"
            )
