"""C2, C5. Topics come and go as they are told to: a created topic is listed until somebody deletes it, a deleted one is
not listed again until somebody creates it, of two creations without a deletion between them only one succeeds, and no
topic id is given twice. Any node lists what it knows, so that a listing counts only when all nodes could know.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from raftmq.chaos.checks.findings import Findings, seconds
from raftmq.chaos.history import History, Outcome, TopicOperation

KNOWS_AGAIN_US = 5_000_000
"""After a fault, a node may take so long to hear of what it has missed."""
HEARD_WITHIN_US = 1_000_000
"""Without one, so long to hear of a change that another node was told of."""


def check(history: History) -> Findings:
    found = Findings()
    by_name: dict[str, list[TopicOperation]] = {}
    for operation in history.topics:
        if operation.action != "list":
            by_name.setdefault(operation.topic, []).append(operation)
    lists = [
        one for one in history.topics if one.action == "list" and one.outcome is Outcome.OK and _in_peace(history, one)
    ]
    for name, changes in sorted(by_name.items()):
        _one_creation_wins(found, name, changes)
        for listing in lists:
            _as_told(found, name, changes, listing)
    _ids_are_unique(history, found)
    return found


def _one_creation_wins(found: Findings, name: str, changes: Sequence[TopicOperation]) -> None:
    made = sorted((c for c in changes if _is(c, "create")), key=lambda c: c.invoked)
    for earlier, later in pairwise(made):
        found.examined += 1
        # A deletion that may have happened between the two: one that began before the later returned, whatever it was
        # told in the end, unless that was a refusal.
        between = any(
            c.action == "delete" and c.outcome is not Outcome.FAIL and c.invoked < later.returned
            and c.returned > earlier.invoked
            for c in changes
        )  # fmt: skip
        if not between:
            found.add(f"topic {name} was created twice, at {seconds(earlier.returned)} and {seconds(later.returned)}")


def _as_told(found: Findings, name: str, changes: Sequence[TopicOperation], listing: TopicOperation) -> None:
    """Judged only where the last change of this topic before the listing is certain, and could be known."""
    certain = [c for c in changes if c.outcome is Outcome.OK and c.returned <= listing.invoked]
    if not certain:
        return
    last = max(certain, key=lambda c: c.returned)
    if last.returned + HEARD_WITHIN_US > listing.invoked:
        return
    # What nobody knows the outcome of may happen at any time after it was invoked, also long after it was given up.
    if any(
        c is not last
        and c.action != last.action
        and c.outcome is not Outcome.FAIL
        and c.invoked < listing.returned
        and (c.outcome is Outcome.INFO or c.returned > last.invoked)
        for c in changes
    ):
        return
    found.examined += 1
    if last.action == "create" and name not in listing.topics:
        found.add(f"topic {name}, created at {seconds(last.returned)}, was not listed at {seconds(listing.invoked)}")
    if last.action == "delete" and name in listing.topics:
        found.add(f"topic {name}, deleted at {seconds(last.returned)}, was listed at {seconds(listing.invoked)}")


def _in_peace(history: History, listing: TopicOperation) -> bool:
    return not any(
        listing.invoked < window.healed + KNOWS_AGAIN_US and listing.returned > window.injected
        for window in history.windows
    )


def _ids_are_unique(history: History, found: Findings) -> None:
    names: dict[int, str] = {}
    made: dict[int, TopicOperation] = {}
    for operation in history.topics:
        for name, identity in operation.topics.items():
            found.examined += 1
            if names.setdefault(identity, name) != name:
                found.add(f"topics {names[identity]} and {name} have one id, {identity}")
            if operation.action == "create" and made.setdefault(identity, operation) is not operation:
                found.add(f"two creations of topic {name} were given one id, {identity}")


def _is(operation: TopicOperation, action: str) -> bool:
    return operation.action == action and operation.outcome is Outcome.OK
