"""A few dozen seeds at every run of the tests, and every seed that ever failed."""

from __future__ import annotations

import pytest

from raftmq.sim.simulation import run_seed
from tests.sim.regressions import REGRESSIONS

SEEDS = 40
FIRST = 1_000


@pytest.mark.parametrize("seed", range(FIRST, FIRST + SEEDS))
def test_a_cluster_keeps_its_promises(seed: int) -> None:
    result = run_seed(seed)
    assert result.passed, f"{result.error}\nraftmq sim --seed {seed}\n{result.details}"


@pytest.mark.parametrize("seed", sorted(REGRESSIONS))
def test_what_failed_once_does_not_fail_again(seed: int) -> None:
    result = run_seed(seed)
    assert result.passed, f"{result.error} (before: {REGRESSIONS[seed]})\nraftmq sim --seed {seed}\n{result.details}"
