"""``raftmq queue pipe`` and ``raftmq queue processed``: work on messages that is done once."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from subprocess import PIPE
from typing import Annotated

import typer

from raftmq.cli import output
from raftmq.cli.consume import bytes_field
from raftmq.cli.exits import CommandError, ExitCode
from raftmq.cli.runtime import (
    DEFAULT_CONFIG,
    BootstrapOption,
    ConfigOption,
    GroupArgument,
    JsonOption,
    Target,
    TopicArgument,
    run,
)
from raftmq.client.queue import QueueMessage
from raftmq.client.types import NewRecord

PIPED_BY = "raftmq-piped-by"
"""Header of what a pipe has published: the group, which does not take it for work again."""


def pipe(
    name: TopicArgument,
    group: GroupArgument,
    words: Annotated[
        list[str],
        typer.Argument(metavar="-- COMMAND...", help="Is given a message's value on its standard input."),
    ],
    maximum: Annotated[int, typer.Option("--max", min=0, metavar="N", help="End after so many; 0: never.")] = 0,
    wait_ms: Annotated[int, typer.Option(min=0, help="End when none has come for so long.")] = 1_000,
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
) -> None:
    """Run a command for each message. The lines that it prints are published, with the message's key, to the message's
    partition, and the message is acknowledged: both or neither. Where the command fails, the message is retried."""
    if shutil.which(words[0]) is None:
        raise typer.BadParameter(f"there is no command '{words[0]}'")

    async def command() -> None:
        done = failed = 0
        async with Target(bootstrap, config).client() as client, client.queue(name, group, prefetch=1) as worker:
            while (not maximum or done + failed < maximum) and (message := await worker.get(wait_ms)) is not None:
                if (PIPED_BY, group.encode()) in message.headers:
                    await message.ack()
                elif await _step(message, words, group):
                    done += 1
                else:
                    failed += 1
        output.notice(f"{done} messages done")
        if failed:
            raise CommandError(f"the command failed {failed} times; those messages come again", code=ExitCode.FAILED)

    run(command)


async def _step(message: QueueMessage, words: Sequence[str], group: str) -> bool:
    """Whether the command has done its work."""
    # Not by the event loop: how that makes processes has gRPC complain about each.
    ended = await asyncio.to_thread(subprocess.run, words, input=message.value or b"", stdout=PIPE, check=False)
    if ended.returncode:
        await message.retry(error=f"{words[0]} ended with status {ended.returncode}")
        return False
    lines = ended.stdout.removesuffix(b"\n").split(b"\n") if ended.stdout else []
    if lines:
        headers = [(PIPED_BY, group.encode())]
        await message.ack_and_publish([NewRecord(line, message.key, headers) for line in lines])
    else:
        await message.ack()
    return True


def processed(
    name: TopicArgument,
    group: GroupArgument,
    keys: Annotated[list[str], typer.Argument(metavar="KEY...", help="What the work is known by.")],
    bootstrap: BootstrapOption = None,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Tell which work a group remembers as done, by the keys that it was acknowledged with. Exit code 1 where one of
    them is not known (any more)."""

    async def command() -> None:
        async with Target(bootstrap, config).client() as client:
            found = await client.queues.find_processed(name, group, [key.encode() for key in keys])
        if as_json:
            output.show_json([{**asdict(one), **bytes_field("key", one.key)} for one in found])
        elif found:
            rows = (
                (one.key.decode(), one.partition, one.offset, datetime.fromtimestamp(one.processed_at_ms / 1000, UTC))
                for one in found
            )
            output.show(output.table("", ("key", "#partition", "#offset", "processed at"), rows))
        missing = sorted(set(keys) - {one.key.decode() for one in found})
        if missing:
            raise CommandError(f"not known to be processed: {', '.join(missing)}", code=ExitCode.FAILED)

    run(command)
