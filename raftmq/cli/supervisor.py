"""The nodes of one configuration as child processes of this machine: start, stop, kill, pause, wait.

``raftmq up``, ``down`` and ``demo`` use it, and so do the tests that need real processes:

    cluster = LocalCluster(config, config_file=Path("cluster.yml"))
    for node in cluster.nodes:
        await cluster.start(node)
    await cluster.wait_ready()
    await cluster.kill(NodeId(2))

Beside each data directory ``data/n1`` lie ``data/n1.log`` (all that the process prints, appended) and
``data/n1.pid``. The directory itself belongs to the node alone. A process that another supervisor started is
recognised by its pid file and its command line, and can be stopped from here as well.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import grpc
import grpc.aio

from raftmq.cli import listeners
from raftmq.cli.exits import CommandError
from raftmq.config import ClusterConfig, NodeConfig, dump
from raftmq.ids import NodeId
from raftmq.v1 import broker_pb2, broker_pb2_grpc

STOP_MARGIN_MS = 10_000
"""How much longer than its own shutdown timeout a node may take to end before it is killed."""
KILL_MARGIN_MS = 10_000
"""How long a node may take to end once it is killed."""

_POLL_SECONDS = 0.1
_CALL_SECONDS = 1.0
_Settled = Callable[[broker_pb2.GetMetadataResponse], bool]


class SupervisorError(CommandError):
    """A node cannot be started, ended too early, or does not answer. The text says what to do."""


class LocalCluster:
    """All nodes of ``config``, or those of them that are asked for, on this machine.

    ``config_file`` is what the processes are given; without one, the configuration is written as ``cluster.yml``
    beside the first node's data directory. ``python`` is the interpreter that has raftmq installed.
    """

    def __init__(self, config: ClusterConfig, *, config_file: Path | None = None, python: str = sys.executable) -> None:
        self.config = config
        self.config_file = (config_file or config.nodes[0].data.with_name("cluster.yml")).resolve()
        if config_file is None:
            self.config_file.parent.mkdir(parents=True, exist_ok=True)
            self.config_file.write_text(dump(config))
        self.python = python
        self._children: dict[NodeId, subprocess.Popen[bytes]] = {}
        self._statuses: dict[NodeId, int] = {}

    @property
    def nodes(self) -> tuple[NodeId, ...]:
        """All nodes of the configuration, by id."""
        return tuple(NodeId(i) for i in sorted(node.id for node in self.config.nodes))

    @property
    def running(self) -> tuple[NodeId, ...]:
        """Nodes whose process lives, by id, whoever started it. A paused one lives."""
        return tuple(node for node in self.nodes if self.pid(node) is not None)

    @property
    def bootstrap(self) -> str:
        """Client addresses of all nodes, as ``--bootstrap`` takes them."""
        return ",".join(str(self.config.node(node).client_address) for node in self.nodes)

    def pid(self, node: NodeId) -> int | None:
        """Process id of a node; None if it does not run."""
        child = self._children.get(node)
        if child is not None and child.poll() is None:
            return child.pid
        try:
            pid = int(self._pid_file(node).read_text())
        except (OSError, ValueError):
            return None
        return pid if self._is_node(pid, node) else None

    def exit_status(self, node: NodeId) -> int | None:
        """How the last process that was started from here ended, negative by a signal. None where none has."""
        child = self._children.get(node)
        return self._statuses.get(node) if child is None else child.poll()

    def log_file(self, node: NodeId) -> Path:
        directory = self.config.node(node).data_directory
        return directory.with_name(directory.name + ".log")

    def log_tail(self, node: NodeId, lines: int = 5) -> str:
        """The last lines that a node printed."""
        try:
            with self.log_file(node).open(errors="replace") as log:
                return "".join(deque(log, maxlen=lines)).rstrip()
        except OSError:
            return ""

    async def start(self, node: NodeId) -> None:
        """Start one node and return at once. Raises SupervisorError if it runs already or a port is taken."""
        view = self.config.node(node)
        if (pid := self.pid(node)) is not None:
            raise SupervisorError(f"node {node} runs already (pid {pid}); 'raftmq down' stops it")
        _refuse_taken_ports(view)
        view.data_directory.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file(node).open("ab") as log:
            # A session of its own: Ctrl-C in the terminal reaches the supervisor only, which stops nodes in order.
            child = subprocess.Popen(  # noqa: ASYNC220, S603  done in a millisecond; arguments are ours
                [self.python, *self._arguments(node)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._children[node] = child
        self._statuses.pop(node, None)
        self._pid_file(node).write_text(f"{child.pid}\n")
        # Until it has a command line, no other supervisor could recognise it.
        while child.poll() is None and not listeners.command_line(child.pid):  # noqa: ASYNC110  nobody would tell
            await asyncio.sleep(_POLL_SECONDS / 100)

    async def start_all(self) -> tuple[NodeId, ...]:
        """Start every node that does not run, and return those. If one cannot be started, none stays."""
        started: list[NodeId] = []
        try:
            for node in self.nodes:
                if node not in self.running:
                    await self.start(node)
                    started.append(node)
        except SupervisorError:
            for node in started:
                await self.kill(node)
            raise
        return tuple(started)

    async def stop(self, node: NodeId) -> bool:
        """SIGTERM one node and wait for its end: it hands its leaderships over first.

        True if it ended by itself in time; False if it had to be killed. A node that does not run is stopped.
        """
        pid = self.pid(node)
        if pid is None:
            self._forget(node)
            return True
        patience_ms = self.config.timeouts.shutdown_timeout_ms + STOP_MARGIN_MS
        _signal(pid, signal.SIGTERM)
        _signal(pid, signal.SIGCONT)  # a paused process takes its SIGTERM only now
        if await self._ended(node, pid, patience_ms / 1000):
            self._forget(node)
            return True
        await self.kill(node)
        return False

    async def stop_all(self) -> tuple[NodeId, ...]:
        """Stop every running node, one after the other. Returns those that had to be killed.

        Raises SupervisorError, after all of them had their turn, for the first that does not end even so.
        """
        killed: list[NodeId] = []
        stuck: list[SupervisorError] = []
        for node in self.running:
            try:
                if not await self.stop(node):
                    killed.append(node)
            except SupervisorError as error:
                stuck.append(error)
        if stuck:
            raise stuck[0]
        return tuple(killed)

    async def kill(self, node: NodeId) -> None:
        """SIGKILL one node and wait for its end. Nothing happens if it does not run."""
        pid = self.pid(node)
        if pid is not None:
            _signal(pid, signal.SIGKILL)
            if not await self._ended(node, pid, KILL_MARGIN_MS / 1000):
                raise SupervisorError(f"node {node} (pid {pid}) does not end after SIGKILL: its disk may be stuck")
        self._forget(node)

    def pause(self, node: NodeId) -> None:
        """SIGSTOP: the process keeps its connections and answers nothing."""
        self._signal_running(node, signal.SIGSTOP)

    def resume(self, node: NodeId) -> None:
        """SIGCONT."""
        self._signal_running(node, signal.SIGCONT)

    async def wait_answering(self, node: NodeId, timeout: float = 30.0) -> None:
        """Wait until a node answers on its client port, whatever the state of the cluster.

        Raises SupervisorError when `timeout` seconds are over, or at once if the process has ended.
        """
        await self._wait([node], timeout, settled=lambda answer: True)

    async def wait_ready(self, nodes: Iterable[NodeId] | None = None, timeout: float = 60.0) -> None:
        """Wait until nodes (default: all that run) know a controller that has a session with each of them.

        Raises SupervisorError when `timeout` seconds are over, or at once if one of the processes has ended.
        """
        awaited = tuple(nodes) if nodes is not None else self.running

        def settled(answer: broker_pb2.GetMetadataResponse) -> bool:
            live = {info.node_id for info in answer.nodes if not info.fenced}
            return answer.controller_node_id != 0 and live.issuperset(awaited)

        await self._wait(awaited, timeout, settled)

    # -- inside ------------------------------------------------------------------------------------------------

    async def _wait(self, nodes: Iterable[NodeId], timeout: float, settled: _Settled) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        for node in nodes:
            reason = "no answer yet"
            while reason := await self._ask(node, settled):
                if self.pid(node) is None:
                    raise SupervisorError(self._obituary(node))
                if loop.time() > deadline:
                    raise SupervisorError(
                        f"node {node} is not ready after {timeout:.0f} s: {reason}; its log is {self.log_file(node)}"
                    )
                await asyncio.sleep(_POLL_SECONDS)

    async def _ask(self, node: NodeId, settled: _Settled) -> str:
        """Empty if the node's answer settles it, else what is amiss."""
        target = str(self.config.node(node).client_bind)
        async with grpc.aio.insecure_channel(target, options=[("grpc.enable_http_proxy", 0)]) as channel:
            stub = broker_pb2_grpc.BrokerStub(channel)
            try:
                answer = await stub.GetMetadata(broker_pb2.GetMetadataRequest(), timeout=_CALL_SECONDS)
            except grpc.aio.AioRpcError as error:
                return error.details() or error.code().name
        return (
            "" if settled(answer) else f"the cluster has not settled (controller: {answer.controller_node_id or '-'})"
        )

    def _arguments(self, node: NodeId) -> list[str]:
        return ["-m", "raftmq", "serve", "--node", str(node), "--config", str(self.config_file)]

    def _is_node(self, pid: int, node: NodeId) -> bool:
        """Pid files outlive crashes and pids are used again: only the command line tells."""
        return listeners.command_line(pid).endswith(" ".join(self._arguments(node)))

    def _pid_file(self, node: NodeId) -> Path:
        directory = self.config.node(node).data_directory
        return directory.with_name(directory.name + ".pid")

    def _forget(self, node: NodeId) -> None:
        child = self._children.pop(node, None)
        if child is not None and (status := child.poll()) is not None:
            self._statuses[node] = status
        self._pid_file(node).unlink(missing_ok=True)

    async def _ended(self, node: NodeId, pid: int, timeout: float) -> bool:
        """False if it takes longer than `timeout` seconds."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        child = self._children.get(node)
        while child.poll() is None if child is not None and child.pid == pid else not listeners.has_ended(pid):
            if loop.time() > deadline:
                return False
            await asyncio.sleep(_POLL_SECONDS / 10)
        return True

    def _signal_running(self, node: NodeId, number: signal.Signals) -> None:
        pid = self.pid(node)
        if pid is None:
            raise SupervisorError(f"node {node} does not run")
        _signal(pid, number)

    def _obituary(self, node: NodeId) -> str:
        child = self._children.get(node)
        status = f" with status {child.returncode}" if child is not None else ""
        said = self.log_tail(node)
        return f"node {node} ended{status}; its log is {self.log_file(node)}" + (
            f" and ends with:\n{said}" if said else ""
        )


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):  # it ended by itself: what the signal was for has happened
        os.kill(pid, number)


def _refuse_taken_ports(node: NodeConfig) -> None:
    for address in (node.client_bind, node.peer_bind, node.http_bind):
        if not listeners.is_free(address):
            by = listeners.holder(address.port) or "a process that this user may not look into"
            raise SupervisorError(
                f"node {node.node_id} cannot start: {address} is taken by {by}. "
                "End that process or give the node other ports in the configuration"
            )
