"""What shells are given to complete commands with, and what the command then answers them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def raftmq(*arguments: str, **environment: str) -> str:
    command = [sys.executable, "-m", "raftmq", *arguments]
    return subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=True, timeout=120
    ).stdout


@pytest.mark.parametrize(("shell", "begins"), [("bash", "complete -o"), ("zsh", "#compdef"), ("fish", "complete --")])
def test_each_shell_has_its_script(shell: str, begins: str) -> None:
    script = raftmq("completion", shell)
    assert begins in script
    assert f"_RAFTMQ_COMPLETE=complete_{shell}" in script


@pytest.mark.parametrize(
    ("words", "position", "found"),
    [
        ("raftmq comp", "1", ["completion"]),
        ("raftmq topic al", "2", ["alter"]),
        ("raftmq exchange de", "2", ["declare", "delete"]),
        ("raftmq publish events --routing", "3", ["--routing-key"]),
        ("raftmq topic alter orders --retention-", "4", ["--retention-ms", "--retention-bytes"]),
    ],
)
def test_commands_and_options_are_completed(words: str, position: str, found: list[str]) -> None:
    answer = raftmq(COMP_WORDS=words, COMP_CWORD=position, _RAFTMQ_COMPLETE="complete_bash")
    assert answer.split() == found
