"""The processes under test, as this package sees them; `raftmq.cli.supervisor.LocalCluster` is what is handed in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Protocol

from raftmq.config import ClusterConfig
from raftmq.ids import NodeId


class Processes(Protocol):
    """The nodes of one configuration as processes of this machine."""

    @property
    def config(self) -> ClusterConfig: ...
    @property
    def nodes(self) -> tuple[NodeId, ...]: ...
    @property
    def running(self) -> tuple[NodeId, ...]:
        """A paused process runs."""

    def pid(self, node: NodeId) -> int | None: ...
    def exit_status(self, node: NodeId) -> int | None:
        """How the last process of a node ended; None where it runs."""

    def log_file(self, node: NodeId) -> Path: ...
    async def start(self, node: NodeId) -> None: ...
    async def stop(self, node: NodeId) -> bool:
        """SIGTERM; False if it had to be killed."""

    async def kill(self, node: NodeId) -> None:
        """SIGKILL, and wait for the end."""

    def pause(self, node: NodeId) -> None: ...
    def resume(self, node: NodeId) -> None: ...
    async def wait_ready(self, nodes: Iterable[NodeId] | None = None, timeout: float = 60.0) -> None: ...


class Launch(Protocol):
    """Makes the `Processes` of a configuration file. ``python`` is run as the interpreter of every node."""

    def __call__(self, config: ClusterConfig, *, config_file: Path, python: str) -> Processes: ...


Leads = Callable[[str, int], NodeId | None]
"""Who leads a partition of a topic now, as far as anybody says so; the empty topic is the controller's group."""

_LAUNCHER = """\
#!/bin/sh
# Starts one node as the experiment wants it: $5 is its number, $5.env what is to be set before.
# This process becomes the node: its pid and its arguments stay.
here=$(dirname "$0")
[ -e "$here/$5.env" ] && . "$here/$5.env"
exec "{python}" "$@"
"""


class Launcher:
    """An interpreter for the nodes that reads a file of settings first: what an experiment preloads or limits."""

    def __init__(self, directory: Path, python: str) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.path = directory / "launch"
        self.path.write_text(_LAUNCHER.format(python=python))
        self.path.chmod(0o755)

    def set(self, node: NodeId, lines: Iterable[str]) -> None:
        """Shell lines that run before the node does, from its next start on."""
        (self._directory / f"{node}.env").write_text("".join(f"{line}\n" for line in lines))
