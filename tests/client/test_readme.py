"""The examples of the client's README and of the first page: every one of them runs."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

import raftmq
from raftmq.client import Client
from tests.client.fake_broker import FakeCluster

ROOT = Path(__file__).parents[2]


def examples(page: str, cluster: FakeCluster) -> list[str]:
    """Blocks of Python, for the fake cluster; what starts a program is left to the test."""
    blocks: list[str] = re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.DOTALL | re.MULTILINE)
    return [
        re.sub(r'connect\("[^"]*"\)', f'connect("{cluster.addresses}")', block.replace("asyncio.run(main())", ""))
        for block in blocks
    ]


def run(block: str, known: dict[str, Any]) -> Any:
    """The function that a block defines."""
    before = set(known)
    exec(compile(block, "README.md", "exec"), known)
    [name] = [name for name in known if name not in before and callable(known[name]) and name != "Callable"]
    return known.pop(name)


@pytest.fixture
def known() -> dict[str, Any]:
    return {"asyncio": asyncio, "raftmq": raftmq, "__builtins__": __builtins__}


async def test_the_first_page(cluster: FakeCluster, known: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    block = examples("README.md", cluster)[0]
    await run(block, known)()
    assert "b'customer-7' b'hello'" in capsys.readouterr().out


async def test_the_page_of_the_client(
    cluster: FakeCluster, client: Client, known: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = iter(examples("raftmq/client/README.md", cluster))
    for topic in ("orders", "lines", "invoices"):
        cluster.create(topic, 1)
    await run(next(blocks), known)()
    await run(next(blocks), known)(client, [b"1", b"2"])
    assert cluster.partition("lines", 0).values() == [b"1", b"2"]

    told: list[asyncio.Future[raftmq.RecordReceipt]] = []
    offer = run(next(blocks), known)
    async with client.producer("orders", buffer_bytes=100) as producer:
        assert offer(producer, b"reading", told.append)
        assert not offer(producer, b"r" * 60, told.append)
    assert [future.result().offset for future in told] == [1]

    bill = run(next(blocks), known)
    assert [await bill(client, b"42"), await bill(client, b"42")] == [True, False]
    async with client.producer("orders") as producer:
        await run(next(blocks), known)(producer, b"order")
    capsys.readouterr()
    await run(next(blocks), known)(client)
    assert capsys.readouterr().out.count("\n") == 3

    await run(next(blocks), known)(client, b"7")
    assert capsys.readouterr().out == "orders 3\n"
    cluster.create("replies", 1)
    async with client.consumer("orders", start="latest") as requests:
        asked = asyncio.create_task(run(next(blocks), known)(client))
        await client.reply(await anext(requests), b"1.20")
        assert await asked == b"1.20"
    assert [run(next(blocks), known).__name__ for _ in range(3)] == ["bill_all", "careful", "catch_up"], (
        "groups need real nodes"
    )
    assert run(next(blocks), known).__name__ == "replace", "operations are not for a cluster of fakes"

    await client.admin.delete_topic("orders")
    await asyncio.to_thread(run(next(blocks), known))
    assert "b'soon'" in capsys.readouterr().out
    await client.admin.delete_topic("orders")
    await run(next(blocks), known)(client)
    assert next(blocks, None) is None, "an example that is not run here"
