"""``raftmq serve`` runs one node; ``raftmq up`` and ``down`` run all nodes of a configuration on this machine."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import RenderableType
from rich.live import Live
from rich.text import Text

import raftmq
from raftmq.cli import output, status
from raftmq.cli.cluster import take_snapshot
from raftmq.cli.exits import CommandError, ExitCode
from raftmq.cli.runtime import DEFAULT_CONFIG, ConfigOption, fail, run
from raftmq.cli.supervisor import LocalCluster
from raftmq.client import Client
from raftmq.config import load
from raftmq.errors import RaftmqError
from raftmq.ids import NodeId

REFRESH_SECONDS = 1.0


def serve(
    node: Annotated[int, typer.Option("--node", min=1, metavar="ID", help="Which node of the file to be.")],
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Run one node in the foreground. SIGTERM hands its leaderships over before it ends."""
    # Imported here: only this command needs storage and servers, and the others start sooner without them.
    from raftmq import server

    try:
        cluster = load(config)
        exit_status = server.run(cluster, cluster.node(node).node_id)
    except Exception as error:  # noqa: BLE001  the edge of the program: whatever it is gets words and a code
        fail(error)
    raise typer.Exit(exit_status)


def up(
    config: ConfigOption = DEFAULT_CONFIG,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Return once they run; 'raftmq down' stops them.")
    ] = False,
) -> None:
    """Start all nodes of the configuration on this machine and show how they are, until Ctrl-C stops them."""
    run(lambda: _up(config, detach))


def down(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Stop the nodes that 'raftmq up' started, one after the other."""
    run(lambda: _down(config))


async def _up(config: Path, detach: bool) -> None:
    cluster = LocalCluster(load(config), config_file=config)
    started = await cluster.start_all()
    if not started:
        output.notice("all nodes run already; 'raftmq cluster status' shows how they are, 'raftmq down' stops them")
        return
    try:
        with output.notices.status(f"starting {_nodes(started)}"):
            await cluster.wait_ready()
        if detach:
            await _announce(cluster)
            return
        with suppress(asyncio.CancelledError):  # Ctrl-C or SIGTERM: the way this command is meant to end
            await _watch(cluster)
    except BaseException:
        await _stop(cluster, started)
        raise
    await _stop(cluster, started)


async def _down(config: Path) -> None:
    cluster = LocalCluster(load(config), config_file=config)
    running = cluster.running
    if not running:
        output.notice("no node runs")
        return
    await _stop(cluster, running)


async def _stop(cluster: LocalCluster, nodes: tuple[NodeId, ...]) -> None:
    """One after the other, so that each can hand over to those that are left."""
    killed = []
    for node in nodes:
        with output.notices.status(f"stopping node {node}"):
            if not await cluster.stop(node):
                killed.append(node)
    output.notice(f"stopped {_nodes(nodes)}")
    if killed:
        raise CommandError(
            f"{_nodes(tuple(killed))} did not end in time and had to be killed",
            hint=f"nothing acknowledged is lost by that; the reason may stand in {cluster.log_file(killed[0])}",
            code=ExitCode.FAILED,
        )


async def _announce(cluster: LocalCluster) -> None:
    async with raftmq.connect(cluster.bootstrap) as client:
        output.show(status.render(await take_snapshot(client)))
    output.notice("'raftmq down' stops the nodes")


async def _watch(cluster: LocalCluster) -> None:
    """Show the state until Ctrl-C or SIGTERM (which cancel this task), or until no node is left."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with raftmq.connect(cluster.bootstrap) as client:
        with _display() as show:
            while cluster.running:
                show(*await _look(cluster, client))
                await asyncio.sleep(REFRESH_SECONDS)
    raise CommandError("all nodes have ended", hint=f"their logs lie in {cluster.log_file(cluster.nodes[0]).parent}")


@contextmanager
def _display() -> Iterator[Callable[[RenderableType, str], None]]:
    """Shows a picture in place on a terminal; elsewhere the line that stands for it, each time it changes."""
    if output.console.is_terminal:
        with Live(console=output.console, auto_refresh=False) as live:
            yield lambda picture, _line: live.update(picture, refresh=True)
        return
    told = ""

    def tell(_picture: RenderableType, line: str) -> None:
        nonlocal told
        if line != told:
            output.notice(line)
            told = line

    yield tell


async def _look(cluster: LocalCluster, client: Client) -> tuple[RenderableType, str]:
    """What to show on a terminal, and the same in one line."""
    ended = [node for node in cluster.nodes if node not in cluster.running]
    try:
        snapshot = await take_snapshot(client)
    except RaftmqError as error:
        line = f"no answer: {error.message}"
        return Text(line, style="bold red"), line
    line = str(status.health(snapshot))
    if ended:
        line += f"; {_nodes(tuple(ended))} ended, see {cluster.log_file(ended[0])}"
    picture = Text(f"\nCtrl-C stops the nodes. Logs: {cluster.log_file(cluster.nodes[0]).parent}/*.log", style="dim")
    return output.stack(status.render(snapshot), picture), line


def _nodes(nodes: tuple[NodeId, ...]) -> str:
    return f"node{'' if len(nodes) == 1 else 's'} {', '.join(map(str, nodes))}"
