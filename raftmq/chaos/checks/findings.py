"""What a check hands back."""

from __future__ import annotations

from dataclasses import dataclass, field

KEPT_MAX = 20
"""So many violations are kept in words. The first ones are the smallest evidence; the rest is counted."""


@dataclass(slots=True)
class Findings:
    examined: int = 0
    """Facts that could have been wrong. A check that examined nothing has shown nothing."""
    count: int = 0
    violations: list[str] = field(default_factory=list)
    """The first ones, in the order of time or of offsets."""
    unclear: list[str] = field(default_factory=list)
    """What would be violations on a machine that had not stalled meanwhile: they make a run INVALID."""

    def add(self, violation: str) -> None:
        self.count += 1
        if len(self.violations) < KEPT_MAX:
            self.violations.append(violation)


def seconds(microseconds: int) -> str:
    """A moment of the run, as people read it."""
    return f"{microseconds / 1e6:.3f} s"
