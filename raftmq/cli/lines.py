"""Lines of files and of standard input, as they come, without holding up the event loop."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from raftmq.cli.exits import CommandError, ExitCode

STDIN = Path("-")
CHUNK_BYTES = 64 * 1024
_CHUNKS_AHEAD = 16

Item = bytes | OSError | None


async def read_lines(files: Sequence[Path]) -> AsyncIterator[list[bytes]]:
    """Lines without their ends, a chunk's worth at a time; ``-`` is standard input. Raises CommandError."""
    for file in files:
        rest = b""
        async for chunk in _chunks(file):
            *lines, rest = (rest + chunk).split(b"\n")
            if lines:
                yield lines
        if rest:
            yield [rest]


def is_interactive(files: Sequence[Path]) -> bool:
    """Whether a person types the lines."""
    return STDIN in files and os.isatty(0)


async def _chunks(file: Path) -> AsyncIterator[bytes]:
    """What a thread reads, a few chunks ahead.

    It is a daemon reading the bare descriptor: at the end of the program nothing waits for a person to press
    Enter. (An event loop cannot wait for regular files, and a buffered reader may not be left in mid-read.)
    """
    try:
        descriptor = 0 if file == STDIN else os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _unreadable(file, error) from error
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[Item] = asyncio.Queue(_CHUNKS_AHEAD)
    thread = threading.Thread(target=_pump, args=(descriptor, queue, loop), name=f"read {file}", daemon=True)
    thread.start()
    while (item := await queue.get()) is not None:
        if isinstance(item, OSError):
            raise _unreadable(file, item) from item
        yield item


def _pump(descriptor: int, queue: asyncio.Queue[Item], loop: asyncio.AbstractEventLoop) -> None:
    try:
        while chunk := _read(descriptor):
            _put(queue, chunk, loop)
            if isinstance(chunk, OSError):
                return
        _put(queue, None, loop)
    except (RuntimeError, asyncio.CancelledError):
        return  # the loop has ended: nobody wants the rest
    finally:
        if descriptor != 0:
            os.close(descriptor)


def _put(queue: asyncio.Queue[Item], item: Item, loop: asyncio.AbstractEventLoop) -> None:
    """Wait until there is room. Raises RuntimeError or CancelledError where the loop has ended."""
    put = queue.put(item)
    try:
        future = asyncio.run_coroutine_threadsafe(put, loop)
    except RuntimeError:
        put.close()
        raise
    future.result()


def _read(descriptor: int) -> bytes | OSError:
    try:
        return os.read(descriptor, CHUNK_BYTES)
    except OSError as error:
        return error


def _unreadable(file: Path, error: OSError) -> CommandError:
    return CommandError(f"{file} cannot be read: {error.strerror or error}", code=ExitCode.USAGE)
