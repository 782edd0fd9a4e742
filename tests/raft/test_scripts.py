"""The conversations in ``testdata/`` go as they are written down. See ``script.py`` for the language."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .script import play

SCRIPTS = sorted(Path(__file__).with_name("testdata").glob("*.txt"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script(path: Path) -> None:
    written = path.read_text(encoding="utf-8")
    played = play(written)
    if os.environ.get("RAFTMQ_REWRITE") == "1":
        path.write_text(played, encoding="utf-8")
    assert played == written or os.environ.get("RAFTMQ_REWRITE") == "1"


def test_there_are_scripts_and_each_of_them_prints_something() -> None:
    assert len(SCRIPTS) >= 8
    assert all("\n    " in path.read_text(encoding="utf-8") for path in SCRIPTS)
