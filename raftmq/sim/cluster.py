"""A whole cluster in one process, under virtual time: the world that everything else is put into.

    SimCluster(plan) ──> start() ──> run(...) until something holds ──> faults, clients, invariants as one likes

Nothing here waits for real time, and nothing depends on it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from random import Random
from typing import Any, TypeVar

import structlog

from raftmq.client.client import Client
from raftmq.config import ClusterConfig
from raftmq.ids import GroupId, NodeId, ReplicaId, StoreId
from raftmq.ports import Channel, Frame
from raftmq.rpc.codec import decode_frame, encode_frame, parse_frame
from raftmq.sim.checker import Checker
from raftmq.sim.client import SimChannel, sim_channels, sim_client
from raftmq.sim.network import Network
from raftmq.sim.node import CLIENT_PORT, PEER_PORT, NodeProcess, SimNode
from raftmq.sim.plan import Plan
from raftmq.sim.process import Agenda, Process, SimClock
from raftmq.sim.trace import Trace

T = TypeVar("T")

FIRST_CLIENT = 1001


class Failure(Exception):
    """Something that must never happen has happened; the cause says what."""


class NotWell(AssertionError):
    """A healed cluster did not come back in time."""


class SimCluster:
    """See the module docstring. ``failed`` of the faults decides what follows a failed disk."""

    def __init__(self, plan: Plan, *, keep_trace: bool = False) -> None:
        self.plan = plan
        self.agenda = Agenda()
        self.trace = Trace(keep_trace)
        self.storage_failed: Callable[[SimNode], None] = lambda node: node.kill()
        self.nodes: dict[int, SimNode] = {}
        self.clients: dict[int, Process] = {}
        self.checker = Checker(self.nodes)
        self.network = Network(self.agenda, Random(f"network {plan.seed}"), self._find)
        self.network.weather = replace(plan.weather, call_loss=0.0)
        self.network.sent = self.checker.sent
        self.network.arrives = self._arrives
        self._rng = Random(f"cluster {plan.seed}")
        self.config = _config(plan, plan.nodes)
        self.machines: list[SimNode] = []
        """Those of ``nodes``, and those that have left."""
        for number in range(1, plan.nodes + 1):
            self._add(number, self.config)

    def _add(self, number: int, config: ClusterConfig) -> SimNode:
        plan, rng = self.plan, Random(f"node {number} {self.plan.seed}")
        node = SimNode(config.node(number), self.agenda, self.network, rng, self, StoreId(rng.getrandbits(62) + 1))
        node.speed.sync = plan.sync
        node.clock_rate = plan.clock_rates[number - 1] if number <= len(plan.clock_rates) else 1000
        node.clock.set_rate(node.clock_rate)
        node.tune = plan.tune
        self.nodes[number] = node
        self.machines.append(node)
        return node

    def add(self) -> SimNode:
        """One more machine, with a disk that is empty; it is not started. Its file names all nodes, those of the
        others are as they were."""
        number = len(self.machines) + 1
        return self._add(number, _config(self.plan, number))

    def retire(self, node: SimNode) -> None:
        """This machine is gone for good."""
        if node.process is not None:
            node.kill()
        del self.nodes[node.number]

    # -- running -----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start every node, one shortly after the other."""
        for number in self.nodes:
            self.agenda.after(self._rng.randint(0, 50_000), self.nodes[number].boot)

    def run(self, micros: int, until: Callable[[], bool] | None = None) -> bool:
        """Let so much virtual time pass, or stop as soon as `until` holds. Whether it held."""
        end = self.agenda.now + micros
        agenda = self.agenda
        with _quiet_logs():
            while True:
                if until is not None and until():
                    return True
                following = agenda.next_time()
                if following is None or following > end:
                    agenda.now = end
                    return until is not None and until()
                agenda.step()

    def every_so_often(self, holds: Callable[[], bool]) -> Callable[[], bool]:
        """For ``run``: asking after every step would cost more than the steps."""
        asked = [-1]

        def asks() -> bool:
            now = self.agenda.now // 20_000
            if now == asked[0]:
                return False
            asked[0] = now
            return holds()

        return asks

    def client(self, name: str = "client") -> tuple[Process, Client]:
        """A new client, in a process of its own."""
        process = self.client_process(name)
        return process, self.client_in(process, name)

    def client_process(self, name: str) -> Process:
        """A process for clients."""
        number = FIRST_CLIENT + len(self.clients)
        rng = Random(f"client {number} {self.plan.seed}")
        process = self.clients[number] = _ClientProcess(self, name, SimClock(self.agenda, rng.randint(1, 10**9)), rng)
        return process

    def client_in(self, process: Process, name: str) -> Client:
        """A client in a process that may have others."""
        number = self._number_of(process)
        rng = Random(f"retry {name} {number} {self.plan.seed}")
        return sim_client(self.network, process, number, self._node_ids, rng)

    def channels_in(self, process: Process) -> list[SimChannel]:
        """A channel from a process to each node."""
        return sim_channels(self.network, process, self._number_of(process), self._node_ids)

    @property
    def _node_ids(self) -> list[NodeId]:
        return [NodeId(node) for node in sorted(self.nodes)]

    def _number_of(self, process: Process) -> int:
        (number,) = [number for number, known in self.clients.items() if known is process]
        return number

    def spawn(self, process: Process, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run a coroutine in a process. Whatever it raises fails the run."""
        task = process.start_task(work)
        task.add_done_callback(lambda done: _report(process, done))
        return task

    def finish(self, process: Process, work: Coroutine[Any, Any, T], limit_s: float = 60.0) -> T:
        """Run until a coroutine in a process has ended; its result. For tests that drive a cluster step by step."""
        task = process.start_task(work)
        if not self.run(int(limit_s * 1_000_000), task.done):
            raise TimeoutError(f"not done within {limit_s} s of virtual time")
        return task.result()

    def close(self) -> None:
        """The run is over: end every coroutine that is left, of the dead too."""
        self.checker.mute()
        with _quiet_logs():
            for node in self.machines:
                for dead in [*node.graveyard, *([node.process] if node.process is not None else [])]:
                    dead.kill()
                    dead.loop.close()
            for process in self.clients.values():
                process.kill()
                process.loop.close()

    @property
    def events(self) -> int:
        """Messages delivered, timers that fired, syncs and reads done."""
        loops = [node.loop_events for node in self.machines]
        return self.network.delivered + sum(loops) + sum(p.loop.timers_run for p in self.clients.values())

    # -- watching ----------------------------------------------------------------------------------------------------

    def turned(self, process: NodeProcess, groups: set[GroupId]) -> None:
        self.check_loop(process)  # first: what raised has left something half done
        self.checker.turned(process, groups)

    def failed(self, process: NodeProcess, error: BaseException) -> None:
        self.note(process.name, f"disk failed: {error}")
        self.agenda.after(0, self._end_failed, process)

    def _end_failed(self, process: NodeProcess) -> None:
        if process.is_alive:
            self.storage_failed(process.node)

    def booted(self, process: NodeProcess) -> None:
        self.note(process.name, "boot" + (" SUSPECT" if process.node.store.identity.suspect else ""))
        self.checker.booted(process)

    def note(self, who: str, what: str) -> None:
        self.trace.note(self.agenda.now, who, what)

    def check_loop(self, process: Process) -> None:
        """A callback that raised is a bug of the process."""
        if process.loop.failures:
            raise Failure(f"{process.name} raised") from process.loop.failures[0]

    def _find(self, number: int) -> NodeProcess | None:
        node = self.nodes.get(number)
        return None if node is None else node.process

    def _arrives(self, source: NodeProcess, target: NodeProcess, channel: Channel, frame: Frame) -> Frame:
        self.note(f"{source.name}>{target.number}", describe(channel, frame))
        if not self.plan.through_codec:
            return frame
        data = b"".join(piece.data for piece in encode_frame(frame))
        decoded = decode_frame(
            parse_frame(data),
            ReplicaId(source.info.node, source.info.store),
            ReplicaId(target.info.node, target.info.store),
        )
        # A disk that took another one's place gets messages for that one, too, for as long as the configuration has it.
        faults = [fault for fault in decoded.faults if not fault.startswith("message to")]
        assert not faults, faults
        return decoded.frame

    def describe(self) -> str:
        """Every node's state, for people."""
        cuts = ", ".join(f"{a}->{b} {how.value}" for (a, b), how in self.network.cuts.items()) or "none"
        return "\n".join([*(node.describe() for _, node in sorted(self.nodes.items())), f"links cut: {cuts}"])


class _ClientProcess(Process):
    def __init__(self, cluster: SimCluster, name: str, clock: SimClock, rng: Random) -> None:
        super().__init__(cluster.agenda, name, clock, rng)
        self._cluster = cluster

    def after_turn(self) -> None:
        self._cluster.check_loop(self)


def _report(process: Process, task: asyncio.Task[Any]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        process.loop.failures.append(error)


def describe(channel: Channel, frame: Frame) -> str:
    """A frame in a few words."""
    parts = [channel.name.lower()]
    if frame.heartbeat is not None:
        parts.append(f"beat {frame.heartbeat.sequence}/{frame.heartbeat.led_version}")
    if frame.heartbeat_ack is not None:
        parts.append(f"ack {frame.heartbeat_ack.sequence}/{frame.heartbeat_ack.led_version}")
    for addressed in frame.messages:
        message = addressed.message
        told = " ".join(
            f"{name}={_in_brief(value)}"
            for name in type(message).__slots__
            if (value := getattr(message, name)) is not None
        )
        parts.append(f"g{addressed.group} {type(message).__name__} t{message.term} {told}")
    parts += [f"g{one.group} leader {one.leader} t{one.term} {one.in_sync}" for one in frame.notices]
    return "; ".join(parts)


def _in_brief(value: object) -> object:
    if type(value) is ReplicaId:
        return _name(value)
    return len(value) if isinstance(value, tuple) else value


@lru_cache(maxsize=1_000)
def _name(replica: ReplicaId) -> str:
    return str(replica)


def _config(plan: Plan, count: int) -> ClusterConfig:
    nodes = [
        {
            "id": number,
            "host": "127.0.0.1",
            "client_port": CLIENT_PORT + number,
            "peer_port": PEER_PORT + number,
            "http_port": 30_000 + number,
            "data": f"n{number}",
        }
        for number in range(1, count + 1)
    ]
    return ClusterConfig.model_validate(
        {
            "cluster": "sim",
            "nodes": nodes,
            "defaults": {"replication_factor": min(3, plan.nodes)},
            "timeouts": {
                "heartbeat_interval_ms": plan.heartbeat_ms,
                "election_timeout_ms": plan.election_ms,
                "replica_lag_max_ms": 2 * plan.election_ms,
                "session_timeout_ms": 6 * plan.election_ms,
            },
            "limits": {
                "tail_cache_bytes": plan.tail_bytes,
                "snapshot_bytes_per_s": plan.retention.bytes_per_s,
            },
        }
    )


@contextmanager
def _quiet_logs() -> Iterator[None]:
    """What nodes would log is nobody's business here: thousands of them start and die."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.configure(**before)
