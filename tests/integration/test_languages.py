"""Other languages are full clients: programs in Go and Node, and a command-line tool, against real nodes.

Each needs its toolchain and, the first time, its language's package registry; where one of them is missing the test is
skipped and says which.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import raftmq.v1
from raftmq.cli.supervisor import LocalCluster
from raftmq.ids import NodeId
from raftmq.records.slots import partition_for_key

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parent.parent.parent
CLIENTS = ROOT / "tests" / "clients"
DESCRIPTORS = Path(raftmq.v1.__file__).parent / "descriptors.binpb"
COUNT = 100


def tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"there is no {name} here")
    return found


def fetched(command: Sequence[str], directory: Path, **variables: str) -> None:
    """Run what may need a registry; skip where it cannot be had."""
    environment = {**os.environ, **variables}
    ended = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        pytest.skip(f"{' '.join(command[:2])}: {ended.stderr.strip()[-300:]}")


@pytest.fixture
def go_client(tmp_path: Path) -> Path:
    """The program in tests/clients/go, built with stubs that are generated now."""
    go = tool("go")
    place = tmp_path / "go"
    shutil.copytree(CLIENTS / "go", place)
    tools = ["google.golang.org/protobuf/cmd/protoc-gen-go", "google.golang.org/grpc/cmd/protoc-gen-go-grpc"]
    fetched([go, "mod", "download"], place, GOTOOLCHAIN="local")
    fetched([go, "build", "-o", "bin/", *tools], place, GOTOOLCHAIN="local")
    protos = sorted(str(file.relative_to(ROOT / "proto")) for file in (ROOT / "proto" / "raftmq" / "v1").iterdir())
    options = ",".join(["module=client", *(f"M{file}=client/raftmqv1" for file in protos)])
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}"]
    for kind in ("go", "go-grpc"):
        command += [f"--plugin=bin/protoc-gen-{kind}", f"--{kind}_out=.", f"--{kind}_opt={options}"]
    subprocess.run([*command, *protos], cwd=place, check=True)
    subprocess.run([go, "build", "-o", "bin/client", "."], cwd=place, check=True)
    return place / "bin" / "client"


@pytest.fixture
def node_client(tmp_path: Path) -> list[str]:
    """The program in tests/clients/node with the packages that it needs; stubs are made of the descriptor set."""
    node, npm = tool("node"), tool("npm")
    place = tmp_path / "node"
    shutil.copytree(CLIENTS / "node", place)
    fetched([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], place)
    return [node, str(place / "main.js"), str(DESCRIPTORS)]


async def run(*command: str) -> Any:
    """What a program prints, as JSON. It must end well."""
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    return json.loads(out)


async def check(cluster: LocalCluster, command: Sequence[str], no_such_topic: str) -> None:
    """Through each node alone: the program sees what it should, whoever leads."""
    cluster_ids = set()
    for node in cluster.nodes:
        address = str(cluster.config.node(node).client_address)
        told = await run(*command, address, f"topic-{node}", str(COUNT))
        cluster_ids.add(told["cluster_id"])
        dealt = [int(partition_for_key(b"key %d" % (n % 20), 3)) for n in range(COUNT)]
        assert told["keyed"] == [dealt.count(partition) for partition in range(3)]
        first = told["keyed"][0]
        assert told["streamed"] == list(range(first, first + COUNT))
        keyed = [f"keyed {n}" for n in range(COUNT) if dealt[n] == 0]
        assert told["read"] == keyed + [f"streamed {n}" for n in range(COUNT)]
        assert told["refused"] == f"{no_such_topic} UNKNOWN_TOPIC NOT_APPLIED"
    assert len(cluster_ids) == 1


async def test_a_client_in_go(cluster: LocalCluster, go_client: Path) -> None:
    await check(cluster, [str(go_client)], "NotFound")


async def test_a_client_in_node(cluster: LocalCluster, node_client: list[str]) -> None:
    await check(cluster, node_client, "NOT_FOUND")


async def test_a_command_line_tool_with_the_descriptor_set(cluster: LocalCluster) -> None:
    """The calls of the README: bytes are base64 and 64-bit integers text, as JSON wants them."""
    buf = Path(sys.executable).with_name("buf")
    if not buf.exists():
        pytest.skip("there is no buf here")
    address = str(cluster.config.node(NodeId(2)).client_address)

    async def call(method: str, request: object) -> Any:
        options = ["--schema", str(DESCRIPTORS), "--protocol", "grpc", "--http2-prior-knowledge"]
        return await run(
            str(buf), "curl", *options, "--data", json.dumps(request), f"http://{address}/raftmq.v1.{method}"
        )

    await call("Admin/CreateTopic", {"name": "orders", "partitions": 1, "replicationFactor": 3})
    produced = await call("Broker/Produce", {"topic": "orders", "records": [{"key": "Yw==", "value": "aGVsbG8="}]})
    assert produced["receipt"]["count"] == 1
    offsets = await call("Broker/ListOffsets", {"topic": "orders", "appendedAt": "2020-01-01T00:00:00Z"})
    assert offsets["partitions"][0]["highWatermark"] == "1"
    fetched_back = await call("Broker/Fetch", {"topic": "orders", "partition": 0, "offset": "0"})
    assert fetched_back["nextOffset"] == "1"
