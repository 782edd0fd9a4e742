"""A few dozen seeds at every run of the tests, and every seed that ever failed."""

from __future__ import annotations

import pytest

from raftmq.raft.core import Core
from raftmq.sim.simulation import run_seed
from tests.sim.regressions import REGRESSIONS

SEEDS = 40
FIRST = 1_000


@pytest.mark.parametrize("seed", range(FIRST, FIRST + SEEDS))
def test_a_cluster_keeps_its_promises(seed: int) -> None:
    result = run_seed(seed)
    assert result.passed, result.story()


@pytest.mark.parametrize("seed", sorted(REGRESSIONS))
def test_what_failed_once_does_not_fail_again(seed: int) -> None:
    result = run_seed(seed)
    assert result.passed, f"{result.story()}\nbefore: {REGRESSIONS[seed]}"


def test_a_failure_tells_how_to_repeat_it_and_what_led_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Core, "send_after_persist", Core.send_now)
    result = run_seed(FIRST)
    again = run_seed(FIRST)
    story = result.story()
    assert not result.passed
    assert (again.digest, again.error) == (result.digest, result.error), "it is the same failure every time"
    assert f"raftmq sim --seed {FIRST}" in story
    assert "node 1: boot" in story
    assert all(line in story for line in result.trace[-20:])
