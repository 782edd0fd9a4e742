"""The simulation finds bugs that are put back on purpose; without them the same seeds are clean (see test_seeds)."""

from __future__ import annotations

import pytest

from raftmq.sim.simulation import run_seed
from tests.sim.mutants import MUTANTS

SEARCHED = 60
"""A plan changes with the code that draws it: then the search starts anew, and must still end."""


@pytest.mark.parametrize("name", sorted(name for name, mutant in MUTANTS.items() if mutant.seed is not None))
def test_a_known_bug_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant = MUTANTS[name]
    assert mutant.seed is not None
    errors: list[str] = []
    with monkeypatch.context() as patch:
        mutant.apply(patch)
        for seed in (mutant.seed, *range(SEARCHED)):
            result = run_seed(seed)
            if not result.passed:
                errors.append(result.error)
                if any(word in result.error for word in mutant.caught_by):
                    return
    raise AssertionError(f"{name} was not caught; other failures: {errors[:3]}")
