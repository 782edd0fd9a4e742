"""``raftmq exchange``: declare, delete, bind, unbind, list, trace."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from enum import Enum
from typing import Annotated, Any

import typer

from raftmq.cli import output
from raftmq.cli.runtime import DEFAULT_CONFIG, BootstrapOption, ConfigOption, JsonOption, Target, run
from raftmq.client.exchange_types import (
    BindingDescription,
    ExchangeDescription,
    RouteDescription,
)

app = typer.Typer(help="Exchanges: declare, delete, bind, unbind, list, trace.", no_args_is_help=True)

ExchangeArgument = Annotated[str, typer.Argument(metavar="EXCHANGE", help="The exchange's name.", show_default=False)]
RoutingKeyOption = Annotated[str, typer.Option("--routing-key", "-k", metavar="KEY", help="Words between dots.")]
HeaderOption = Annotated[
    list[str] | None, typer.Option("--header", "-H", metavar="NAME=VALUE", help="May be given several times.")
]
ToTopicOption = Annotated[str, typer.Option("--topic", "-t", metavar="TOPIC", help="The topic that it leads to.")]
ToExchangeOption = Annotated[
    str, typer.Option("--to-exchange", metavar="EXCHANGE", help="The exchange that it leads to, instead of a topic.")
]
PatternOption = Annotated[
    str,
    typer.Option(
        "--routing-key", "-k", metavar="KEY", help="Of topic exchanges a pattern: * is one word, # any number of them."
    ),
]


class Kind(Enum):
    DIRECT = "direct"
    FANOUT = "fanout"
    TOPIC = "topic"
    HEADERS = "headers"


class Match(Enum):
    ALL = "all"
    ANY = "any"


MatchOption = Annotated[Match, typer.Option(help="How many of the headers a record must have.")]


@app.command()
def declare(
    name: ExchangeArgument,
    kind: Annotated[
        Kind,
        typer.Option(help="What it looks at: equal keys, nothing, patterns of keys, or headers.", show_default=False),
    ],
    alternate: Annotated[str, typer.Option(metavar="EXCHANGE", help="Gets what no binding fits.")] = "",
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Declare an exchange; done already where there is an equal one."""

    async def command() -> None:
        async with Target(bootstrap, config).client() as client:
            declared = await client.exchanges.declare(name, kind.value, alternate=alternate)
        _tell("declared", declared, as_json)

    run(command)


@app.command()
def delete(
    name: ExchangeArgument,
    force: Annotated[bool, typer.Option("--force", help="Also end bindings of others that lead to it.")] = False,
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Delete an exchange and its bindings. Topics and their records stay."""

    async def command() -> None:
        async with Target(bootstrap, config).client() as client:
            await client.exchanges.delete(name, force=force)
        output.console.print(f"deleted exchange {name}", markup=False)

    run(command)


@app.command()
def bind(
    name: ExchangeArgument,
    topic: ToTopicOption = "",
    to_exchange: ToExchangeOption = "",
    routing_key: PatternOption = "",
    header: HeaderOption = None,
    match: MatchOption = Match.ALL,
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Let an exchange lead to a topic, or to another exchange. An empty header stands for any value."""
    headers = parse_headers(header)

    async def command() -> None:
        async with Target(bootstrap, config).client() as client:
            bound = await client.exchanges.bind(
                name,
                topic=topic,
                to_exchange=to_exchange,
                routing_key=routing_key,
                headers=headers,
                match=match.value,
            )
        _tell("bound", bound, as_json)

    run(command)


@app.command()
def unbind(
    name: ExchangeArgument,
    topic: ToTopicOption = "",
    to_exchange: ToExchangeOption = "",
    routing_key: PatternOption = "",
    header: HeaderOption = None,
    match: MatchOption = Match.ALL,
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """End a binding: named as it was bound."""
    headers = parse_headers(header)

    async def command() -> None:
        async with Target(bootstrap, config).client() as client:
            left = await client.exchanges.unbind(
                name,
                topic=topic,
                to_exchange=to_exchange,
                routing_key=routing_key,
                headers=headers,
                match=match.value,
            )
        _tell("unbound", left, as_json)

    run(command)


@app.command("list")
def list_exchanges(
    bootstrap: BootstrapOption = None, config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False
) -> None:
    """List all exchanges and their bindings."""

    async def command() -> None:
        async with Target(bootstrap, config).client() as client:
            exchanges = await client.exchanges.list()
        if as_json:
            output.show_json([_plain(asdict(exchange)) for exchange in exchanges])
            return
        if not exchanges:
            output.notice("no exchanges yet; 'raftmq exchange declare NAME --kind KIND' makes one")
            return
        rows = [
            (exchange.name, exchange.kind, exchange.alternate, *row)
            for exchange in exchanges
            for row in ([_row(binding) for binding in exchange.bindings] or [("", "")])
        ]
        output.show(output.table("", ("exchange", "kind", "alternate", "fits", "leads to"), rows))

    run(command)


@app.command()
def trace(
    name: ExchangeArgument,
    routing_key: RoutingKeyOption = "",
    header: HeaderOption = None,
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Where would this go, and why? Nothing is sent."""
    headers = parse_headers(header)

    async def command() -> None:
        async with Target(bootstrap, config).client() as client:
            route = await client.exchanges.trace(name, routing_key=routing_key, headers=headers)
        if as_json:
            output.show_json(_plain(asdict(route)))
        else:
            output.console.print(_story(route), markup=False, soft_wrap=True)

    run(command)


def parse_headers(told: Iterable[str] | None) -> list[tuple[str, bytes]]:
    """``NAME=VALUE`` of the options. Raises typer.BadParameter."""
    pairs = []
    for one in told or ():
        name, separator, value = one.partition("=")
        if not name or not separator:
            raise typer.BadParameter(f"{one!r} is not NAME=VALUE", param_hint="--header")
        pairs.append((name, value.encode()))
    return pairs


def _tell(done: str, exchange: ExchangeDescription, as_json: bool) -> None:
    if as_json:
        output.show_json(_plain(asdict(exchange)))
        return
    alternate = f", alternate {exchange.alternate}" if exchange.alternate else ""
    count = len(exchange.bindings)
    output.console.print(
        f"{done}: exchange {exchange.name}, {exchange.kind}{alternate}, {count} binding{'' if count == 1 else 's'}",
        markup=False,
    )


def _row(binding: BindingDescription) -> tuple[str, str]:
    """What fits, and where it leads."""
    headers = ", ".join(f"{name}={value.decode(errors='replace')}" for name, value in binding.headers)
    fits = f"{binding.match} of {headers}" if headers else binding.routing_key
    return fits, f"topic {binding.topic}" if binding.topic else f"exchange {binding.exchange}"


def _story(route: RouteDescription) -> str:
    lines = []
    for step in route.steps:
        lines.append(f"exchange {step.exchange}")
        for fits, leads_to in map(_row, step.bindings):
            lines.append(f"  {fits or '(everything)'} -> {leads_to}")
        if step.alternate:
            lines.append(f"  nothing fits -> alternate exchange {step.alternate}")
        elif not step.bindings:
            lines.append("  nothing fits")
    lines.append(f"reaches: {', '.join(route.topics)}" if route.topics else "unroutable: it reaches no topic")
    return "\n".join(lines)


def _plain(value: Any) -> Any:
    """For JSON: bytes as the text that they mostly are."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value
