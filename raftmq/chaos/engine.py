"""One run of one experiment, from an empty folder to a verdict."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from raftmq.chaos import disks, faults, proxies, readout, shim, strain, topology, workloads
from raftmq.chaos.arena import TOPIC, Arena, Means
from raftmq.chaos.experiment import Experiment, Occurrence, schedule
from raftmq.chaos.faults.base import Fault
from raftmq.chaos.frames import Frames
from raftmq.chaos.history import History
from raftmq.chaos.live import View
from raftmq.chaos.nodes import Launch, Launcher, Processes
from raftmq.chaos.observer import Observer, direct_client
from raftmq.chaos.plans import DiskFull, PowerCut
from raftmq.chaos.proxies import Proxies
from raftmq.chaos.reading import load
from raftmq.chaos.recorder import Recorder
from raftmq.chaos.shim import Shim
from raftmq.chaos.topology import Topology
from raftmq.chaos.verdict import (
    EXPERIMENT_FILE,
    FAULTS_FILE,
    HISTORY_FILE,
    RUN_FILE,
    VERDICT_FILE,
    Level,
    Verdict,
    judge,
)
from raftmq.chaos.workloads.base import Load
from raftmq.config import dump
from raftmq.errors import RaftmqError
from raftmq.ids import NodeId

DRAIN_SECONDS = 90.0
"""Longer than any delivery timeout: by then every send has its answer."""
START_SECONDS = 60.0
ATTEMPTS, ANEW_SECONDS = 3, 10.0
"""So often, and for so long, it is tried to bring a cluster up whose nodes end at once."""
MEASURED_AT_S = 1.9
TOPIC_TIMEOUT_MS = 30_000


@dataclass(frozen=True)
class Settings:
    folder: Path
    seed: int
    python: str
    launch: Launch


async def run(experiment: Experiment, settings: Settings, view: View) -> tuple[Verdict, History]:
    """Run it, and leave everything in the folder. Whatever goes wrong, there is a verdict in the end."""
    folder = settings.folder
    folder.mkdir(parents=True)
    _write_json(folder / EXPERIMENT_FILE, experiment.model_dump(mode="json"))
    _write_json(folder / RUN_FILE, {"seed": settings.seed})
    fault_log: list[dict[str, Any]] = []
    left = ""
    history, begun = Recorder(folder / HISTORY_FILE), False
    try:
        async with AsyncExitStack() as stack:
            means = _means(experiment, folder, stack)
            if reasons := _missing(experiment, means):
                return _end(folder, _nothing(experiment, Level.UNAVAILABLE, reasons), History())
            view.recorder = stack.enter_context(history)
            try:
                arena = await _come_up(experiment, settings, means, view, stack)
                begun = True
                await _Run(experiment, settings.seed, arena, history, view, fault_log).run()
            except Exception as error:  # noqa: BLE001  whatever it is, nothing was shown: a slow machine, a bug
                began = "the run broke off" if begun else "the cluster did not come up"
                view.note(f"{began}: {_said(error)}")
                history.write("broken", message=f"{began}: {_said(error)}")
    except Exception as error:  # noqa: BLE001  what was set up cannot be taken down: the next run may not be alone
        left = f"the run could not be ended: {_said(error)}"
    finally:
        (folder / FAULTS_FILE).write_text("".join(json.dumps(one) + "\n" for one in fault_log))
    try:
        events = await asyncio.to_thread(load, folder / HISTORY_FILE)
        view.note(f"judge {events.events:,} events")
        verdict = await asyncio.to_thread(judge, experiment, events, fault_log)
    except Exception as error:  # noqa: BLE001  a check with a bug: `raftmq chaos check` shows where
        verdict = _nothing(experiment, Level.INVALID, [f"the history cannot be judged: {_said(error)}"])
        events = History()
    if left:
        level = Level.INVALID if verdict.level is Level.PASS else verdict.level
        verdict = replace(verdict, level=level, reasons=(*verdict.reasons, left))
    return _end(folder, verdict, events)


def _end(folder: Path, verdict: Verdict, events: History) -> tuple[Verdict, History]:
    _write_json(folder / VERDICT_FILE, verdict.as_json())
    return verdict, events


def _nothing(experiment: Experiment, level: Level, reasons: Sequence[str]) -> Verdict:
    return Verdict(experiment.name, level, tuple(reasons), (), {}, ())


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _means(experiment: Experiment, folder: Path, stack: AsyncExitStack) -> Means:
    """What this machine can do. File systems that are needed are mounted for it."""
    built = topology.build(experiment.cluster, folder, proxied=proxies.why_missing() is None)
    return Means(
        why_no_proxies=proxies.why_missing() or "",
        why_no_shims=shim.why_missing() or "",
        why_no_disks=_mount_disks(experiment, built, stack),
    )


def _missing(experiment: Experiment, means: Means) -> list[str]:
    found = {plan.fault: faults.why_unavailable(plan, means) for plan in experiment.faults}
    return [f"{name}: {reason}" for name, reason in found.items() if reason]


def _mount_disks(experiment: Experiment, built: Topology, stack: AsyncExitStack) -> str:
    """Give a file system of its own to every node that needs one. Returns why that cannot be done, or ""."""
    powered = any(isinstance(plan, PowerCut) for plan in experiment.faults)
    filled = {plan.target for plan in experiment.faults if isinstance(plan, DiskFull)}
    for node in built.nodes if powered else sorted(filled):
        directory = built.config.node(node).data_directory
        if reason := (disks.mount_image if powered else disks.mount_small)(directory):
            return reason
        stack.callback(disks.unmount, directory)
    return ""


async def _come_up(
    experiment: Experiment, settings: Settings, means: Means, view: View, stack: AsyncExitStack
) -> Arena:
    """The cluster. It is tried again, on other ports, where a node ends at once: somebody else may have taken one."""
    gives_up = asyncio.get_running_loop().time() + ANEW_SECONDS
    for left in range(ATTEMPTS, 0, -1):
        built = topology.build(experiment.cluster, settings.folder, proxied=not means.why_no_proxies)
        try:
            return await stack.enter_async_context(_arena(experiment, settings, built, means, view))
        except Exception as error:
            if left == 1 or asyncio.get_running_loop().time() > gives_up:
                raise
            view.note(f"once more, on other ports: {error}")
    raise AssertionError("the last attempt returns or raises")


async def _ready(processes: Processes) -> None:
    """Until all nodes are up. Raises an error as soon as one of them has ended."""
    ready = asyncio.create_task(processes.wait_ready(timeout=START_SECONDS))
    while not ready.done():
        await asyncio.wait({ready}, timeout=0.1)
        ended = [node for node in processes.nodes if processes.pid(node) is None]
        if ended and not ready.done():
            ready.cancel()
            said = processes.log_file(ended[0]).read_text(errors="replace").rstrip().rpartition("\n")[2]
            raise OSError(f"node {ended[0]} ended at its start: {said[:300]}")
    ready.result()


@asynccontextmanager
async def _arena(
    experiment: Experiment, settings: Settings, built: Topology, means: Means, view: View
) -> AsyncIterator[Arena]:
    """The cluster, up and settled, with everything around it; taken down again whatever happens."""
    folder = settings.folder
    launcher = Launcher(folder / "launch", settings.python)
    shims, layers = _attach(experiment, built.nodes, folder / "launch", launcher, means)
    config_file = folder / "cluster.yml"
    config_file.write_text(dump(built.config))
    processes = settings.launch(built.config, config_file=config_file, python=str(launcher.path))
    ports = {NodeId(node.id): node.client_port for node in built.config.nodes}
    async with AsyncExitStack() as stack:
        server: Proxies | None = None
        if built.routes:
            server = await Proxies.start(built.routes, folder / "toxiproxy.log")
            stack.push_async_callback(server.stop)
        view.note(f"toxiproxy-server {server.version}" if server else f"no proxies: {means.why_no_proxies}")
        for node in built.nodes:
            stack.push_async_callback(processes.kill, node)
        for node in built.nodes:
            await processes.start(node)
        await _ready(processes)
        admin = await stack.enter_async_context(direct_client(ports, dict(built.routes.values())))
        assert view.recorder is not None
        view.observer = Observer(ports, admin, view.recorder, processes.pid)
        stack.push_async_callback(view.observer.stop)
        yield Arena(
            folder=folder, topology=built, processes=processes, launcher=launcher, observer=view.observer, admin=admin,
            proxies=server, shims=shims, frames=layers, means=means, rng=random.Random(settings.seed),
            python=settings.python,
        )  # fmt: skip


def _attach(
    experiment: Experiment, nodes: tuple[NodeId, ...], directory: Path, launcher: Launcher, means: Means
) -> tuple[dict[NodeId, Shim], dict[NodeId, Frames]]:
    """What every node is started with, where a fault needs it: the preloaded library, and the layer around messages."""
    shims: dict[NodeId, Shim] = {}
    layers: dict[NodeId, Frames] = {}
    here = directory.resolve()
    if any(faults.needs_shim(plan, means) for plan in experiment.faults):
        library = shim.build(here)
        keeps = any(faults.needs_synced(plan, means) for plan in experiment.faults)
        shims = {node: Shim(library, here / f"{node}.cells", keeps_synced=keeps) for node in nodes}
    if any(faults.needs_layer(plan, means) for plan in experiment.faults):
        layers = {node: Frames(here / f"{node}.frames", create=True) for node in nodes}
    for node in nodes:
        launcher.set(node, [line for it in (shims.get(node), layers.get(node)) if it for line in it.environment])
    return shims, layers


class _Run:
    """Load, faults, settling, the last reading."""

    def __init__(
        self, experiment: Experiment, seed: int, arena: Arena, recorder: Recorder, view: View, log: list[dict[str, Any]]
    ) -> None:
        """`log`: where every fault writes what became of it, also where the run breaks off."""
        self._experiment = experiment
        self._seed = seed
        self._arena = arena
        self._recorder = recorder
        self._view = view
        self._log = log

    async def run(self) -> None:
        experiment, arena = self._experiment, self._arena
        await arena.admin.admin.create_topic(
            TOPIC, partitions=experiment.cluster.partitions, retention_bytes=experiment.cluster.retention_bytes,
            timeout_ms=TOPIC_TIMEOUT_MS,
        )  # fmt: skip
        self._recorder.begin()
        arena.observer.start()
        watching = asyncio.create_task(strain.watch(arena.processes, self._recorder), name="strain")
        bootstrap = ",".join(str(arena.topology.config.node(node).client_address) for node in arena.nodes)
        load = Load(bootstrap, TOPIC, experiment.cluster.partitions, self._recorder)
        try:
            await self._under_load(load)
            watching.cancel()
            await self._last_reading(load)
        finally:
            watching.cancel()
            # Done by now, unless it broke off.
            for task in (*load.tasks, *load.endless):
                task.cancel()
            await asyncio.gather(watching, *load.tasks, *load.endless, return_exceptions=True)

    async def _under_load(self, load: Load) -> None:
        experiment, arena, view = self._experiment, self._arena, self._view
        for number, plan in enumerate(experiment.workloads):
            workloads.start(plan, load, number, self._seed)
        # Connections are made by then, and nothing is broken yet.
        begins = [one.begin for one in schedule(experiment.faults, experiment.duration, self._seed)]
        asyncio.get_running_loop().call_later(
            min([MEASURED_AT_S, *begins]), strain.write_resources, arena.processes, self._recorder
        )
        view.ends_s = experiment.duration + experiment.settle
        view.phase = "load and faults"
        view.note(f"load begins; seed {self._seed}")
        try:
            await self._inject_all()
            view.phase = "load, all healed"
            view.note("all healed; the load goes on")
            await asyncio.sleep(experiment.settle)
        finally:
            load.stopping.set()
        view.phase = "settling what is under way"
        await self._drain(load)
        await arena.observer.stop()

    async def _last_reading(self, load: Load) -> None:
        self._view.phase = "the last reading"
        self._view.note("wait until replicas are equal, and read everything")
        for message, late in await readout.read_out(self._arena, load):
            self._amiss(message, late=late)
        strain.write_resources(self._arena.processes, self._recorder)

    async def _drain(self, load: Load) -> None:
        """Until everything has its outcome, or has had far more time than any of it is given; then until consumers have
        all there is.
        """
        stuck: set[asyncio.Task[None]] = set()
        if load.tasks:
            _, stuck = await asyncio.wait(load.tasks, timeout=DRAIN_SECONDS)
        for task in stuck:
            self._amiss(f"{task.get_name()} had no answer {DRAIN_SECONDS:.0f} s after the load", late=True)
        await readout.wait_consumed(self._arena, load)
        for task in (*stuck, *load.endless):
            task.cancel()
        for result in await asyncio.gather(*load.tasks, *load.endless, return_exceptions=True):
            if isinstance(result, Exception) and not isinstance(result, RaftmqError):
                raise result  # a workload with a bug must not pass for a quiet one

    def _amiss(self, message: str, *, late: bool) -> None:
        self._view.note(message)
        self._recorder.write("amiss", message=message, late=late)

    async def _inject_all(self) -> None:
        """Every occurrence of the schedule at its time; returns when the load's time is over and all is healed."""
        began = asyncio.get_running_loop().time()
        occurrences = schedule(self._experiment.faults, self._experiment.duration, self._seed)
        tasks = [
            asyncio.create_task(self._occur(number, occurrence, began)) for number, occurrence in enumerate(occurrences)
        ]
        try:
            await asyncio.sleep(self._experiment.duration)
            if tasks:
                await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _occur(self, number: int, occurrence: Occurrence, began: float) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(began + occurrence.begin - loop.time())
        fault = faults.make(occurrence.plan, self._arena)
        now_s = self._recorder.now_us / 1e6
        entry: dict[str, Any] = {
            "fault": number, "injected_s": now_s, "name": fault.title, "means": fault.means, "healed_s": now_s,
            "fired": False, "violation": "", "evidence": {},
        }  # fmt: skip
        self._log.append(entry)
        self._recorder.write("fault", type="inject", fault=number, name=fault.title)
        self._view.active[number] = fault.title
        try:
            await self._attempt(fault.inject(), entry)
            self._view.active[number] = fault.title
            self._view.note(fault.title)
            await asyncio.sleep(began + occurrence.end - loop.time())
        finally:
            # Where the run is broken off, too: what was done to processes and proxies is taken back.
            await asyncio.shield(self._attempt(fault.heal(), entry))
            self._healed(number, fault, entry)

    async def _attempt(self, step: Any, entry: dict[str, Any]) -> None:
        """A fault that cannot be done makes the run invalid; it does not end it."""
        try:
            await step
        except Exception as error:  # noqa: BLE001  the fault's log says what it was
            entry["error"] = f"{type(error).__name__}: {error}"

    def _healed(self, number: int, fault: Fault[Any], entry: dict[str, Any]) -> None:
        self._view.active.pop(number, None)
        self._recorder.write("fault", type="heal", fault=number, name=fault.title)
        proof = fault.proof
        entry |= {
            "name": fault.title,
            "means": fault.means,
            "healed_s": self._recorder.now_us / 1e6,
            "fired": proof.fired and "error" not in entry,
            "violation": proof.violation,
            "evidence": proof.evidence,
        }
        self._view.note(f"healed: {fault.title}" + ("" if entry["fired"] else "  (it did not fire)"))


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=1, default=str) + "\n")
