"""``raftmq cluster``: status, transfer-leader; the rest is in ``operations``."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from raftmq.cli import operations, output, status
from raftmq.cli.exits import ExitCode
from raftmq.cli.runtime import DEFAULT_CONFIG, BootstrapOption, ConfigOption, JsonOption, Target, run
from raftmq.client import Client
from raftmq.client.types import ReplicaDescription
from raftmq.errors import RaftmqError

app = typer.Typer(help="The cluster: its state, who leads, and who holds what.", no_args_is_help=True)
app.command("add-node")(operations.add_node)
app.command("drain")(operations.drain)
app.command("remove-node")(operations.remove_node)
app.command("move-replica")(operations.move_replica)
app.command("repair-node")(operations.repair_node)
app.command("operations")(operations.operations)


@app.command("status")
def show_status(
    bootstrap: BootstrapOption = None, config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False
) -> None:
    """Show nodes, controller, leaders, in-sync sets and lag. Exit code 1 unless everything is healthy."""

    async def command() -> None:
        async with Target(bootstrap, config).client() as client:
            snapshot = await take_snapshot(client)
        if as_json:
            output.show_json(status.as_json(snapshot))
        else:
            output.show(status.render(snapshot))
        if status.health(snapshot).level is not status.Level.HEALTHY:
            raise typer.Exit(ExitCode.FAILED)

    run(command)


@app.command("transfer-leader")
def transfer_leader(
    topic: Annotated[str, typer.Argument(metavar="[TOPIC]", help="Without a topic: the controller.")] = "",
    partition: Annotated[int, typer.Option("--partition", "-p", min=0)] = 0,
    to: Annotated[int, typer.Option("--to", min=0, metavar="NODE", help="0: as the present leader likes.")] = 0,
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Move the leadership of a partition, or of the controller, to another replica that is in sync."""

    async def command() -> None:
        async with Target(bootstrap, config).client() as client:
            await client.cluster.transfer_leader(topic, partition, to)
        what = f"partition {partition} of {topic}" if topic else "the controller"
        output.console.print(f"{what} has handed its leadership over", markup=False)

    run(command)


async def take_snapshot(client: Client) -> status.Snapshot:
    """Ask the cluster for its description, and each of its nodes for its replicas."""
    cluster = await client.cluster.describe()

    async def ask(node: int) -> tuple[ReplicaDescription, ...] | None:
        try:
            return tuple(await client.cluster.list_replicas(node))
        except RaftmqError:
            return None

    nodes = [node.info.node_id for node in cluster.nodes]
    answers = await asyncio.gather(*(ask(node) for node in nodes))
    return status.Snapshot(cluster, dict(zip(nodes, answers, strict=True)))
