"""A world in which no fault has any effect: what is asked of it is written down, and not done."""

from __future__ import annotations

import asyncio
import contextlib
import random
import subprocess
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from raftmq.chaos import topology
from raftmq.chaos.arena import TOPIC, Arena, Means
from raftmq.chaos.experiment import ClusterPlan
from raftmq.chaos.faults import probe
from raftmq.chaos.frames import Frames
from raftmq.chaos.nodes import Launcher
from raftmq.chaos.proxies import Toxic
from raftmq.chaos.shim import Shim
from raftmq.config import ClusterConfig
from raftmq.errors import NotReady
from raftmq.ids import NodeId

N1 = NodeId(1)
NOBODY = 2**22 + 1
"""No process has this id: the kernel gives none above 2**22."""


class StubbornProcesses:
    """Nodes that no signal reaches. All of them have the id of one process that does nothing."""

    def __init__(self, config: ClusterConfig, folder: Path, pid: int | None, done: list[str]) -> None:
        self.config = config
        self.nodes = self.running = tuple(NodeId(node.id) for node in config.nodes)
        self._folder = folder
        self._pid = pid
        self._done = done

    def pid(self, node: NodeId) -> int | None:
        return self._pid

    def exit_status(self, node: NodeId) -> int | None:
        return None

    def log_file(self, node: NodeId) -> Path:
        path = self._folder / f"n{node}.log"
        path.touch()
        return path

    async def start(self, node: NodeId) -> None:
        self._done.append(f"start {node}")

    async def stop(self, node: NodeId) -> bool:
        self._done.append(f"stop {node}")
        return False

    async def kill(self, node: NodeId) -> None:
        self._done.append(f"kill {node}")

    def pause(self, node: NodeId) -> None:
        self._done.append(f"pause {node}")

    def resume(self, node: NodeId) -> None:
        self._done.append(f"resume {node}")

    async def wait_ready(self, nodes: Iterable[NodeId] | None = None, timeout: float = 60.0) -> None:
        self._done.append("wait")


class IdleProxies:
    """Links that carry everything, whatever is put on them."""

    def __init__(self, listen: dict[str, int], done: list[str]) -> None:
        self.listen = listen
        self._done = done

    async def add(self, toxics: Sequence[Toxic]) -> None:
        self._done += [f"add {toxic.type}" for toxic in toxics]

    async def remove(self, toxics: Sequence[Toxic]) -> None:
        self._done += [f"remove {toxic.type}" for toxic in toxics]

    async def enable(self, names: Sequence[str], enabled: bool) -> None:
        self._done += [f"{'enable' if enabled else 'disable'} {name}" for name in names]

    async def present(self, proxy: str) -> dict[str, Any]:
        return {"listed": {}}


class Idle:
    """A client of a cluster that answers, and does nothing of what it is asked to."""

    def __init__(self, done: list[str]) -> None:
        self._done = done
        self.admin = self.cluster = self

    async def describe_topic(self, name: str) -> Any:
        return SimpleNamespace(partitions=[SimpleNamespace(partition=0, replicas=(1, 2, 3))])

    async def list_offsets(self, topic: str, **_named: Any) -> Any:
        return [SimpleNamespace(partition=0, log_start_offset=0, high_watermark=5)]

    async def list_replicas(self, *_arguments: Any, **_named: Any) -> Any:
        return [SimpleNamespace(topic=TOPIC, partition=0, log_end_offset=5)]

    async def drain_node(self, node: NodeId) -> Any:
        return SimpleNamespace(operation_id=1)

    async def add_node(self, node: NodeId) -> Any:
        return SimpleNamespace(operation_id=2)

    async def wait(self, operation_id: int, **_named: Any) -> Any:
        return SimpleNamespace(state="failed")

    async def transfer_leader(self, *_arguments: Any, **_named: Any) -> Any:
        self._done.append("transfer")
        raise NotReady("leaders stay where they are")

    async def move_replica(self, *_arguments: Any, **_named: Any) -> Any:
        self._done.append("move")
        raise NotReady("replicas stay where they are")

    def consumer(self, *_arguments: Any, **_named: Any) -> Any:
        raise NotReady("there is nothing to read")


class LeadsAll:
    """Node 1 leads everything, and answers."""

    def __init__(self, nodes: Iterable[NodeId]) -> None:
        self.answering = dict.fromkeys(nodes, True)

    def leader(self, topic: str, partition: int) -> NodeId | None:
        return N1


@asynccontextmanager
async def arena(
    folder: Path, *, nodes: int = 3, proxied: bool = True, alive: bool = True
) -> AsyncIterator[tuple[Arena, list[str]]]:
    """The world, and what was asked of it. `alive`: nodes have a process, and a server answers behind each proxy."""
    done: list[str] = []
    built = topology.build(ClusterPlan(nodes=nodes), folder, proxied=proxied)
    for node in built.config.nodes:
        directory = built.config.node(node.id).data_directory / "db"
        directory.mkdir(parents=True)
        (directory / "000004.log").write_bytes(b"entries")
    idle = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)  # noqa: ASYNC220
    assert idle.stdin is not None
    assert idle.stdout is not None
    idle.stdin.write(b"x")
    idle.stdout.read(1)  # it has begun, and has nothing to do from now on
    answering: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answering.add(asyncio.create_task(_answer(reader, writer)))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    if not alive:
        server.close()
        await server.wait_closed()
    try:
        yield (
            Arena(
                folder=folder,
                topology=built,
                processes=StubbornProcesses(built.config, folder, idle.pid if alive else NOBODY, done),
                launcher=Launcher(folder / "launch", "/bin/false"),
                observer=cast(Any, LeadsAll(built.nodes)),
                admin=cast(Any, Idle(done)),
                proxies=cast(Any, IdleProxies(dict.fromkeys(built.routes, port), done)) if proxied else None,
                shims={
                    node: Shim(folder / "no.so", folder / f"{node}.cells", keeps_synced=True) for node in built.nodes
                },
                frames={node: Frames(folder / f"{node}.frames", create=True) for node in built.nodes},
                means=Means() if proxied else Means(why_no_proxies="no proxies", why_no_disks="no root"),
                rng=random.Random(1),
                python="/bin/false",
            ),
            done,
        )
    finally:
        idle.communicate()
        server.close()
        await asyncio.gather(*answering)


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """As a gRPC server does: a pong for every ping; it ends the connection when the other side has."""
    buffered = b""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            buffered += data
            pings = buffered.count(probe.PING)
            buffered = buffered.rpartition(probe.PING)[2] if pings else buffered
            writer.write(probe.PONG * pings)
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
