"""The real ``raftmq`` command as a process, against the fake cluster of the client's tests."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.client.fake_broker import FakeCluster, fake_cluster


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Coroutine[Any, Any, Ended]]


@pytest.fixture
async def cluster() -> AsyncIterator[FakeCluster]:
    async with fake_cluster() as cluster:
        yield cluster


@pytest.fixture
def raftmq_command(tmp_path: Path) -> Command:
    """Runs ``raftmq`` with arguments in an empty directory, to its end."""

    async def run(*arguments: str, stdin: bytes = b"", **variables: str) -> Ended:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RAFTMQ_")}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "raftmq",
            *arguments,
            cwd=tmp_path,
            env={**environment, "NO_COLOR": "1", **variables},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate(stdin)
        assert process.returncode is not None
        return Ended(process.returncode, out.decode(), err.decode())

    return run


@pytest.fixture
def client_command(cluster: FakeCluster, raftmq_command: Command) -> Command:
    """The same, against the fake cluster."""

    async def run(*arguments: str, stdin: bytes = b"", **variables: str) -> Ended:
        return await raftmq_command(*arguments, stdin=stdin, RAFTMQ_BOOTSTRAP=cluster.addresses, **variables)

    return run
