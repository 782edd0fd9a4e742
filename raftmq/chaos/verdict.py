"""From a history and a log of faults to a verdict.

PASS: every property that the experiment names was examined and holds, every fault fired, and enough was done.
FAIL: a property does not hold; the smallest evidence stands beside it.
INVALID: nothing false was seen, but the run shows nothing: a fault did not fire, too few operations, nothing to
examine, something was too slow on a machine that was measured to stall, or the run broke off.
UNAVAILABLE: this machine cannot inject what the experiment asks for, so that it was not run.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from raftmq.chaos import checks, figure, reading
from raftmq.chaos.checks import liveness
from raftmq.chaos.experiment import Experiment
from raftmq.chaos.history import History, Outcome

HISTORY_FILE = "history.jsonl"
FAULTS_FILE = "faults.jsonl"
VERDICT_FILE = "verdict.json"
REPORT_FILE = "report.html"
EXPERIMENT_FILE = "experiment.json"
RUN_FILE = "run.json"


STRAINED = 0.25
"""Share of the time."""


class Level(Enum):
    PASS = "PASS"  # noqa: S105  no password
    FAIL = "FAIL"
    INVALID = "INVALID"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class Judged:
    """One property. ``wanted``: the experiment names it; others are shown, and count where they are violated."""

    name: str
    statement: str
    wanted: bool
    examined: int
    violations: int
    evidence: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    experiment: str
    level: Level
    reasons: tuple[str, ...]
    """Why it is not PASS."""
    judged: tuple[Judged, ...]
    figures: dict[str, Any]
    faults: tuple[dict[str, Any], ...]

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "level": self.level.value}


def judge(experiment: Experiment, events: History, faults: Sequence[dict[str, Any]]) -> Verdict:
    """Hold a history to its properties."""
    if events.broken:
        return _broken_off(experiment, events, faults)
    bounds = liveness.Bounds(experiment.bounds.leader_s, experiment.bounds.acknowledged_s)
    judged, unsure = [], []
    for check in checks.all_checks(bounds):
        found = check.run(events)
        wanted = check.name in experiment.checks + experiment.also
        unsure.append((check.name, found.unclear))
        if wanted or found.count:
            judged.append(
                Judged(check.name, check.statement, wanted, found.examined, found.count, tuple(found.violations))
            )
    figures = _figures(events, faults)
    broken = [f"{one.name}: {one.evidence[0]}" for one in judged if one.violations]
    broken += _must_never_be(events, faults)
    empty = [f"{name}: {said}" for name, unclear in unsure for said in unclear[:1]]
    (empty if _is_strained(events) else broken).extend(events.late)
    empty += _shows_nothing(experiment, judged, figures, faults)
    level = Level.FAIL if broken else Level.INVALID if empty else Level.PASS
    return Verdict(experiment.name, level, tuple(broken + empty), tuple(judged), figures, tuple(faults))


def _broken_off(experiment: Experiment, events: History, faults: Sequence[dict[str, Any]]) -> Verdict:
    """Properties are not asked for: what such a history lacks would look like loss."""
    wrong = _must_never_be(events, faults)
    level = Level.FAIL if wrong else Level.INVALID
    return Verdict(experiment.name, level, (*wrong, *events.broken), (), _figures(events, faults), tuple(faults))


def _must_never_be(events: History, faults: Sequence[dict[str, Any]]) -> list[str]:
    """What is wrong whatever else happened."""
    return [f"{fault['name']}: {fault['violation']}" for fault in faults if fault.get("violation")] + events.amiss


def _is_strained(events: History) -> bool:
    """Whether the machine was so busy after the last fault that what took too long says nothing."""
    healed = liveness.healed_at(events) or 0
    return events.stalled_s(healed, events.end) > STRAINED * (events.end - healed) / 1e6


def judge_folder(folder: Path) -> tuple[Verdict, History]:
    """Judge a run again by what it left. Raises OSError and ValueError where that cannot be read."""
    experiment = Experiment.model_validate_json((folder / EXPERIMENT_FILE).read_text())
    faults = [json.loads(line) for line in (folder / FAULTS_FILE).read_text().splitlines()]
    events = reading.load(folder / HISTORY_FILE)
    return judge(experiment, events, faults), events


def _shows_nothing(
    experiment: Experiment, judged: Sequence[Judged], figures: dict[str, Any], faults: Sequence[dict[str, Any]]
) -> list[str]:
    reasons = [
        f"{fault['name']}, at {fault['injected_s']:.1f} s, did not fire: {fault.get('error') or 'nothing shows it'}"
        for fault in faults
        if not fault["fired"]
    ]
    minimum = experiment.minimum
    fired = sum(fault["fired"] for fault in faults)
    for what, count, least in (
        ("records acknowledged", figures["acknowledged"], minimum.acknowledged),
        ("records polled", figures["polled"], minimum.polled),
        ("records sent while a fault was active", figures["sent_in_faults"], minimum.in_faults if faults else 0),
        ("faults fired", fired, minimum.faults),
    ):
        if count < least:
            reasons.append(f"only {count} {what}, at least {least} are needed to show anything")
    reasons += [f"{one.name}: there was nothing to examine" for one in judged if one.wanted and not one.examined]
    return reasons


def _figures(events: History, faults: Sequence[dict[str, Any]]) -> dict[str, Any]:
    outcomes = Counter(events.sends.outcome)
    healed = liveness.healed_at(events)
    figures: dict[str, Any] = {
        "seconds": round(events.end / 1e6, 1),
        "events": events.events,
        "sent": len(events.sends),
        "acknowledged": outcomes[Outcome.OK],
        "failed": outcomes[Outcome.FAIL],
        "unknown": outcomes[Outcome.INFO],
        "polled": len(events.polls),
        "read_at_the_end": sum(len(log.offset) for log in events.final.values()),
        "faults_fired": sum(fault["fired"] for fault in faults),
        "sent_in_faults": figure.sent_in_faults(events),
        "polled_in_faults": figure.polled_in_faults(events),
        "stalled_s": round(events.stalled_s(0, events.end), 1),
        "resources": figure.resources(events),
        **figure.latencies(events),
    }
    if healed is not None and faults:
        parts = sorted(set(events.sends.partition))
        leader = [liveness.first_leader(events, events.name(p), healed) for p in parts]
        acked = [liveness.first_acknowledged(events, p, healed) for p in parts]
        for name, times in (("leader_after_heal_s", leader), ("acknowledged_after_heal_s", acked)):
            known = [t for t in times if t is not None]
            figures[name] = round(max(known), 2) if known and len(known) == len(times) else None
    return figures
