"""``raftmq bench``: the subcommands."""

from __future__ import annotations

import typer

from raftmq.cli import output
from raftmq.cli.bench.calls import calls
from raftmq.cli.bench.common import DIRECTORY, DirectoryOption, SecondsOption, measure_floor
from raftmq.cli.bench.consume import consume
from raftmq.cli.bench.end_to_end import end_to_end
from raftmq.cli.bench.failover import failover
from raftmq.cli.bench.idle import idle
from raftmq.cli.bench.latency import latency
from raftmq.cli.bench.produce import produce
from raftmq.cli.bench.queue import queue
from raftmq.cli.bench.restart import restart
from raftmq.cli.bench.soak import soak
from raftmq.cli.bench.suite import everything
from raftmq.cli.runtime import JsonOption, run

app = typer.Typer(
    help="How fast it is, beside how fast bare gRPC and the bare disk are on the same machine in the same run.",
    no_args_is_help=True,
)
app.command()(produce)
app.command()(consume)
app.command("end-to-end")(end_to_end)
app.command()(latency)
app.command()(calls)
app.command()(queue)
app.command()(failover)
app.command()(idle)
app.command()(restart)
app.command()(soak)
app.command("all")(everything)


@app.command("floor")
def show_floor(seconds: SecondsOption = 3, directory: DirectoryOption = DIRECTORY, as_json: JsonOption = False) -> None:
    """Only the bare machine: gRPC echo between two processes, and fdatasync. --seconds is for each measurement."""

    async def command() -> None:
        with output.notices.status("measuring the bare machine"):
            result = (await measure_floor(directory, seconds)).result(directory)
        if as_json:
            output.show_json(result.as_json())
        else:
            output.show(result.render())

    run(command)
