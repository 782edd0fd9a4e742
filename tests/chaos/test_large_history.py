"""What is made up to measure the checks passes all of them, so that the measurement means something."""

from __future__ import annotations

from pathlib import Path

from raftmq.chaos.verdict import Level, judge_folder
from tests.chaos import large_history


def test_a_made_up_run_passes_every_check_and_gives_each_something_to_examine(tmp_path: Path) -> None:
    records = large_history.leave(tmp_path, 9_000)
    verdict, history = judge_folder(tmp_path)
    assert verdict.level is Level.PASS, verdict.reasons
    assert len(history.sends) == records
    assert history.events >= 9_000
