"""One seed is one run: twice in a process, and in other processes whatever Python's hash seed is."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from raftmq.sim.plan import draw
from raftmq.sim.simulation import run_seed

QUEUES = 4
"""Workers of two groups, one of which is ordered by key."""
PROGRAM = "from raftmq.sim.simulation import run_seed; print(run_seed({seed}).digest)"


@pytest.mark.parametrize("seed", [1, 12, QUEUES])
def test_a_seed_replays_bit_for_bit_in_one_process(seed: int) -> None:
    first, second = run_seed(seed), run_seed(seed)
    assert first.events > 500
    assert (first.digest, first.events, first.states) == (second.digest, second.events, second.states)


@pytest.mark.parametrize("seed", [12, QUEUES])
def test_a_seed_replays_bit_for_bit_under_any_hash_seed(seed: int) -> None:
    digests = {run_seed(seed).digest}
    for hash_seed in ("0", "4242"):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM.format(seed=seed)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        digests.add(done.stdout.strip())
    assert len(digests) == 1


def test_other_seeds_are_other_runs() -> None:
    assert run_seed(1).digest != run_seed(12).digest


def test_a_plan_is_drawn_alike_every_time() -> None:
    assert [str(draw(seed)) for seed in range(50)] == [str(draw(seed)) for seed in range(50)]
