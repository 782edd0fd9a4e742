"""The ``raftmq`` command.

A verb's module is imported when it is that verb's turn: a node that starts again must not pay for the simulator.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import import_module
from typing import Annotated

import typer

from raftmq.cli import output
from raftmq.cli.exits import EXIT_CODES_HELP
from raftmq.version import __version__

VERBS = {
    "up": "nodes",
    "down": "nodes",
    "serve": "nodes",
    "topic": "topic",
    "exchange": "exchange",
    "produce": "produce",
    "publish": "publish",
    "consume": "consume",
    "group": "group",
    "queue": "queue",
    "quota": "quota",
    "cluster": "cluster",
    "verify": "verify",
    "completion": "completion",
    "demo": "demo.command",
    "sim": "sim",
    "chaos": "chaos",
    "bench": "bench.command",
}
"""Modules of ``raftmq.cli``. One with an ``app`` holds a group of commands, another a function named as the verb."""


def build(verbs: Iterable[str] = tuple(VERBS)) -> typer.Typer:
    """The command line with these verbs."""
    app = typer.Typer(
        name="raftmq",
        help="A Raft-replicated clustered message broker.",
        epilog=EXIT_CODES_HELP,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for verb in verbs:
        module = import_module(f"raftmq.cli.{VERBS[verb]}")
        if hasattr(module, "app"):
            app.add_typer(module.app, name=verb)
        else:
            app.command(verb)(getattr(module, verb))
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        output.console.print(f"raftmq {__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """A Raft-replicated clustered message broker."""


def main() -> None:
    """Entry point of the ``raftmq`` script and of ``python -m raftmq``. Does not return."""
    first = sys.argv[1] if len(sys.argv) > 1 else ""
    app = build([first]) if first in VERBS else build()
    app(prog_name="raftmq")
    sys.exit(0)
