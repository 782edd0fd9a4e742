"""The properties that a history is held to: one a file, each a pure function of the history.

A property is stated in the docstring of its file; the reports print those words. All take time linear in the events,
but for a sort or two.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import ModuleType

from raftmq.chaos.checks import (
    assignments,
    batch_atomicity,
    delivered,
    epoch_order,
    fencing,
    group_delivered,
    group_fencing,
    group_offsets,
    group_owners,
    group_progress,
    incarnations,
    latest_offset,
    liveness,
    log_start,
    metadata_versions,
    no_dirty_read,
    no_duplicate,
    no_lost_write,
    no_phantom,
    offset_agreement,
    poll_order,
    producer_order,
    queue_attempts,
    queue_counts,
    queue_key_order,
    queue_leases,
    queue_no_redelivery,
    queue_no_vanish,
    queue_tokens,
    real_time_order,
    replicas_equal,
    resources,
    topics,
)
from raftmq.chaos.checks.findings import Findings
from raftmq.chaos.checks.liveness import Bounds
from raftmq.chaos.history import History


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    run: Callable[[History], Findings]
    statement: str
    """The property, in words, with the short name that the documents give it first."""


_MODULES: tuple[ModuleType, ...] = (
    offset_agreement,
    no_duplicate,
    no_lost_write,
    delivered,
    no_phantom,
    real_time_order,
    producer_order,
    fencing,
    poll_order,
    no_dirty_read,
    latest_offset,
    epoch_order,
    batch_atomicity,
    log_start,
    replicas_equal,
    metadata_versions,
    topics,
    assignments,
    incarnations,
    resources,
    queue_tokens,
    queue_no_redelivery,
    queue_no_vanish,
    queue_attempts,
    queue_leases,
    queue_counts,
    queue_key_order,
    group_offsets,
    group_progress,
    group_fencing,
    group_owners,
    group_delivered,
)
LIVENESS = "liveness"


def _name(module: ModuleType) -> str:
    return module.__name__.rpartition(".")[2].replace("_", "-")


def _statement(module: ModuleType) -> str:
    return " ".join((module.__doc__ or "").split())


NAMES: tuple[str, ...] = (*(_name(module) for module in _MODULES), LIVENESS)


def all_checks(bounds: Bounds) -> tuple[Check, ...]:
    """Every property there is, in the order in which reports show them."""
    checks = [Check(_name(module), module.check, _statement(module)) for module in _MODULES]
    checks.append(Check(LIVENESS, partial(liveness.check, bounds=bounds), _statement(liveness).split(" The bounds")[0]))
    return tuple(checks)
