"""The ``raftmq`` command."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from raftmq.cli import chaos, cluster, consume, nodes, output, produce, sim, topic, verify
from raftmq.cli.bench import command as bench
from raftmq.cli.demo import command as demo
from raftmq.cli.exits import EXIT_CODES_HELP
from raftmq.version import __version__

app = typer.Typer(
    name="raftmq",
    help="A Raft-replicated clustered message broker.",
    epilog=EXIT_CODES_HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(nodes.up)
app.command()(nodes.down)
app.command()(nodes.serve)
app.add_typer(topic.app, name="topic")
app.command()(produce.produce)
app.command()(consume.consume)
app.add_typer(cluster.app, name="cluster")
app.command()(verify.verify)
app.command()(demo.demo)
app.command()(sim.sim)
app.add_typer(chaos.app, name="chaos")
app.add_typer(bench.app, name="bench")


def _print_version(wanted: bool) -> None:
    if wanted:
        output.console.print(f"raftmq {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    """A Raft-replicated clustered message broker."""


def main() -> None:
    """Entry point of the ``raftmq`` script and of ``python -m raftmq``. Does not return."""
    app(prog_name="raftmq")
    sys.exit(0)
