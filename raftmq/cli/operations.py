"""``raftmq cluster``: add-node, drain, remove-node, move-replica, repair-node, operations."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated

import typer

from raftmq.cli import output
from raftmq.cli.exits import CommandError, ExitCode
from raftmq.cli.runtime import DEFAULT_CONFIG, BootstrapOption, ConfigOption, JsonOption, Target, run
from raftmq.client import Client
from raftmq.client.types import OperationDescription
from raftmq.config import Address

WAIT_MS = 24 * 3600 * 1000
"""How long a command waits at most for the operation that it began; Ctrl-C ends the waiting, not the operation."""

NodeArgument = Annotated[int, typer.Argument(metavar="NODE", min=1, help="The node's id.", show_default=False)]
CheckOption = Annotated[bool, typer.Option("--check", help="Only say whether it could be done: nothing is begun.")]
NoWaitOption = Annotated[bool, typer.Option("--no-wait", help="Return when it is begun.")]
Begin = Callable[[Client], Awaitable[OperationDescription]]


class Action(StrEnum):
    CANCEL = "cancel"


def add_node(
    node: NodeArgument,
    peer: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT",
            help="Where other nodes reach it (its peer_port). Not needed to take back a node that was drained.",
        ),
    ] = "",
    check: CheckOption = False,
    no_wait: NoWaitOption = False,
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Admit a node that runs ('raftmq serve') but is not in the cluster yet, or take back one that was drained."""
    try:
        address = Address.parse(peer) if peer else Address("", 0)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--peer") from None
    _operate(
        lambda client: client.cluster.add_node(node, address.host, address.port, validate_only=check),
        Target(bootstrap, config), no_wait or check, as_json,
    )  # fmt: skip


def drain(
    node: NodeArgument,
    check: CheckOption = False,
    no_wait: NoWaitOption = False,
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Move every replica off a node, and its vote on the metadata. The node may be dead: others have the data."""
    _operate(
        lambda client: client.cluster.drain_node(node, validate_only=check),
        Target(bootstrap, config), no_wait or check, as_json,
    )  # fmt: skip


def remove_node(
    node: NodeArgument,
    check: CheckOption = False,
    no_wait: NoWaitOption = False,
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Take a drained node out of the cluster, for good: its data directory is not admitted again."""
    _operate(
        lambda client: client.cluster.remove_node(node, validate_only=check),
        Target(bootstrap, config), no_wait or check, as_json,
    )  # fmt: skip


def move_replica(
    topic: Annotated[str, typer.Argument(metavar="TOPIC", show_default=False)],
    partition: Annotated[int, typer.Argument(metavar="PARTITION", min=0, show_default=False)],
    source: Annotated[int, typer.Option("--from", min=1, metavar="NODE", show_default=False)],
    target: Annotated[int, typer.Option("--to", min=1, metavar="NODE", show_default=False)],
    check: CheckOption = False,
    no_wait: NoWaitOption = False,
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Move one replica of a partition from node to node."""
    _operate(
        lambda client: client.cluster.move_replica(topic, partition, source, target, validate_only=check),
        Target(bootstrap, config), no_wait or check, as_json,
    )  # fmt: skip


def repair_node(
    node: NodeArgument,
    check: CheckOption = False,
    no_wait: NoWaitOption = False,
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Put the new, empty disk that a node was started with in the place of the one that it lost."""
    _operate(
        lambda client: client.cluster.repair_node(node, validate_only=check),
        Target(bootstrap, config), no_wait or check, as_json,
    )  # fmt: skip


def operations(
    action: Annotated[Action | None, typer.Argument(metavar="[cancel]", show_default=False)] = None,
    operation_id: Annotated[int, typer.Argument(metavar="[ID]", min=0, show_default=False)] = 0,
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Show operations, what they wait for and how they ended; or cancel one that runs."""
    if action is not None and not operation_id:
        raise typer.BadParameter("says which operation is to be cancelled", param_hint="ID")

    async def command() -> None:
        async with Target(bootstrap, config).client() as client:
            if action is not None:
                cancelled = await client.cluster.cancel_operation(operation_id)
                output.console.print(_line(cancelled), markup=False)
                return
            known = await client.cluster.operations()
        if as_json:
            output.show_json([asdict(operation) for operation in known])
        elif not known:
            output.notice("no operations yet")
        else:
            columns = ("#id", "what", "state", "#moves left", "waits for, or why")
            output.show(output.table("", columns, (_row(operation) for operation in known)))

    run(command)


def _operate(begin: Begin, target: Target, at_once: bool, as_json: bool) -> None:
    """Begin an operation and, unless `at_once`, wait for its end. Exit code 1 if it was cancelled."""

    async def command() -> None:
        async with target.client() as client:
            operation = await begin(client)
            if not at_once:
                output.notice(f"{_line(operation)}; Ctrl-C ends the waiting, not the operation")
                operation = await client.cluster.wait(operation.operation_id, timeout_ms=WAIT_MS, told=_Progress().tell)
        if as_json:
            output.show_json(asdict(operation))
        elif not operation.operation_id:
            output.console.print(f"{_what(operation)}: it can be done", markup=False)
        else:
            output.console.print(_line(operation), markup=False)
        if operation.state == "cancelled":
            raise CommandError(f"operation {operation.operation_id} was cancelled", code=ExitCode.FAILED)

    run(command)


class _Progress:
    """Says what an operation waits for, whenever that is something else."""

    def __init__(self) -> None:
        self._told: tuple[int, str] | None = None

    def tell(self, operation: OperationDescription) -> None:
        state = operation.moves_left, operation.reason
        if state != self._told and operation.reason and not operation.is_over:
            done = operation.moves - operation.moves_left
            moved = f"{done} of {operation.moves} replicas moved; " if operation.moves else ""
            output.notice(f"{moved}{operation.reason}")
        self._told = state


def _what(operation: OperationDescription) -> str:
    if operation.kind == "move_replica":
        where = f"{operation.topic}/{operation.partition}" if operation.topic else "a deleted topic"
        return f"move_replica {where} from {operation.node_id} to {operation.to_node_id}"
    return f"{operation.kind} {operation.node_id}"


def _line(operation: OperationDescription) -> str:
    return f"operation {operation.operation_id}: {_what(operation)}: {operation.state}"


def _row(operation: OperationDescription) -> tuple[object, ...]:
    left = f"{operation.moves_left} of {operation.moves}" if operation.moves else "-"
    return operation.operation_id, _what(operation), operation.state, left, operation.reason or "-"
