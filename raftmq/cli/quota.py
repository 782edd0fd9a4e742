"""``raftmq quota``: how much clients may ask of the cluster."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from raftmq.cli import output
from raftmq.cli.runtime import DEFAULT_CONFIG, BootstrapOption, ConfigOption, JsonOption, Target, run

app = typer.Typer(help="Quotas of clients: set, list, delete.", no_args_is_help=True)

ClientArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="CLIENT",
        help="Client id; left out: the default, of all that have none of their own.",
        show_default=False,
    ),
]


@app.command("set")
def set_quota(
    client: ClientArgument = None,
    produce_bytes: Annotated[int, typer.Option(min=0, help="Bytes produced in a second; 0: no limit.")] = 0,
    fetch_bytes: Annotated[int, typer.Option(min=0, help="Bytes fetched in a second; 0: no limit.")] = 0,
    requests: Annotated[int, typer.Option(min=0, help="Requests in a second; 0: no limit.")] = 0,
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Say what a client may do in a second, over all nodes: each node allows its share. It holds at once."""

    async def command() -> None:
        async with Target(bootstrap, config).client() as connected:
            await connected.admin.set_quota(
                client or "", produce_bytes_per_s=produce_bytes, fetch_bytes_per_s=fetch_bytes, requests_per_s=requests
            )
        output.console.print(f"set the quota of {_who(client or '')}", markup=False)

    run(command)


@app.command("list")
def list_quotas(
    bootstrap: BootstrapOption = None, config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False
) -> None:
    """List all quotas."""

    async def command() -> None:
        async with Target(bootstrap, config).client() as connected:
            quotas = await connected.admin.list_quotas()
        if as_json:
            output.show_json([asdict(quota) for quota in quotas])
        elif not quotas:
            output.notice("no quotas: every client may do what it likes")
        else:
            rows = (
                (
                    _who(quota.client_id),
                    _told(quota.produce_bytes_per_s),
                    _told(quota.fetch_bytes_per_s),
                    _told(quota.requests_per_s),
                )
                for quota in quotas
            )
            output.show(output.table("", ("client", "#produce bytes/s", "#fetch bytes/s", "#requests/s"), rows))

    run(command)


@app.command()
def delete(
    client: ClientArgument = None, bootstrap: BootstrapOption = None, config: ConfigOption = DEFAULT_CONFIG
) -> None:
    """Delete a quota: the client has what the default allows."""

    async def command() -> None:
        async with Target(bootstrap, config).client() as connected:
            await connected.admin.delete_quota(client or "")
        output.console.print(f"deleted the quota of {_who(client or '')}", markup=False)

    run(command)


def _who(client_id: str) -> str:
    return client_id or "everybody else"


def _told(limit: int) -> str:
    return f"{limit:,}" if limit else "-"
