"""``raftmq completion``: the script that lets a shell complete raftmq's commands and options."""

from __future__ import annotations

import os
from enum import Enum
from typing import Annotated

import typer


class Shell(Enum):
    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


def completion(shell: Annotated[Shell, typer.Argument(help="The shell that is to complete.")]) -> None:
    """Print what makes a shell complete commands and options.

    bash: eval "$(raftmq completion bash)" in ~/.bashrc. zsh: the same in ~/.zshrc, after compinit. fish: raftmq
    completion fish > ~/.config/fish/completions/raftmq.fish
    """
    from raftmq.cli.main import build  # which imports this module

    # The protocol between the shell's script and the command: the command writes its side of it by itself.
    os.environ["_RAFTMQ_COMPLETE"] = f"source_{shell.value}"
    build(())(prog_name="raftmq")
