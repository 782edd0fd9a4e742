"""What every command does around its work: an event loop, the client's address, and an end without a traceback."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
import uvloop

import raftmq
from raftmq.cli import exits, output
from raftmq.cli.exits import CommandError, ExitCode
from raftmq.client import Client
from raftmq.config import BOOTSTRAP_VARIABLE, CONFIG_VARIABLE, Address, load

DEFAULT_CONFIG = Path("cluster.yml")
CONNECT_TIMEOUT_MS = 5_000

ConfigOption = Annotated[
    Path, typer.Option("--config", envvar=CONFIG_VARIABLE, metavar="FILE", help="The cluster's configuration file.")
]
BootstrapOption = Annotated[
    str | None,
    typer.Option(
        "--bootstrap",
        envvar=BOOTSTRAP_VARIABLE,
        metavar="HOST:PORT[,...]",
        help="Nodes to ask first, instead of those in the configuration file.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
TopicArgument = Annotated[str, typer.Argument(metavar="NAME", help="The topic's name.", show_default=False)]
GroupArgument = Annotated[str, typer.Argument(metavar="GROUP", help="The queue group's name.", show_default=False)]


@dataclass(frozen=True, slots=True)
class Target:
    """Where a command's client connects: addresses if given, else those of a configuration file."""

    bootstrap: str | None
    config: Path

    @property
    def addresses(self) -> str:
        """Raises CommandError or ConfigError if what says them cannot be used."""
        if not self.bootstrap:
            cluster = load(self.config)
            return ",".join(str(cluster.node(node.id).client_address) for node in cluster.nodes)
        try:
            return ",".join(str(Address.parse(part)) for part in self.bootstrap.split(","))
        except ValueError as error:
            raise CommandError(f"--bootstrap: {error}", code=ExitCode.USAGE) from error

    def client(self) -> Client:
        """A client that gives up soon where nobody answers: a person waits."""
        return raftmq.connect(self.addresses, connect_timeout_ms=CONNECT_TIMEOUT_MS)


def run(command: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a command to its end, and end the process as its errors ask for (typer.Exit)."""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(command())
        sys.stdout.flush()
    except (KeyboardInterrupt, asyncio.CancelledError):
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    except BrokenPipeError:
        # The reader has what it wanted (`| head`). What is still buffered must not raise again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(ExitCode.OK) from None
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:  # noqa: BLE001  the edge of the program: whatever it is gets words and a code
        fail(error)


def fail(error: Exception) -> NoReturn:
    """Print an error as a person should see it and end the process with its code (typer.Exit)."""
    if exits.debugging():
        raise error
    told = exits.explain(error)
    output.complain(told.message, told.hint)
    raise typer.Exit(told.code) from None
