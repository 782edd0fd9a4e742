"""Where a demo's cluster lives: a fresh directory and ports that nobody has."""

from __future__ import annotations

import shutil
import socket
from contextlib import ExitStack
from pathlib import Path

from raftmq.cli import listeners
from raftmq.cli.exits import CommandError, ExitCode
from raftmq.cli.runtime import DEFAULT_CONFIG
from raftmq.cli.supervisor import LocalCluster
from raftmq.config import Address, ClusterConfig, Defaults, NodeEntry, load

HOST = "127.0.0.1"
NODES_MIN = 3
CONFIG_NAME = "cluster.yml"


def prepare(config: Path, directory: Path) -> ClusterConfig:
    """The configuration of a new run: see `clear` and `topology`. Raises CommandError and ConfigError.

    Without a cluster.yml here there are three nodes all the same; a file that was named must exist.
    """
    pattern = load(config) if config != DEFAULT_CONFIG or config.exists() else None
    clear(directory)
    return topology(pattern, directory)


def clear(directory: Path) -> None:
    """Empty a directory for a new run. Raises CommandError if it is in use, or not a demo's."""
    config = directory / CONFIG_NAME
    if directory.exists() and not config.exists() and any(directory.iterdir()):
        raise CommandError(
            f"{directory} is not empty and not of an earlier demo; it is left alone",
            hint="name another one with --directory",
            code=ExitCode.USAGE,
        )
    if config.exists():
        if running := LocalCluster(load(config), config_file=config).running:
            raise CommandError(
                f"a cluster of an earlier demo still runs in {directory} (nodes {', '.join(map(str, running))})",
                hint=f"stop it: raftmq down --config {config}",
                code=ExitCode.USAGE,
            )
        shutil.rmtree(directory)
    directory.mkdir(parents=True, exist_ok=True)


def topology(pattern: ClusterConfig | None, directory: Path) -> ClusterConfig:
    """The nodes of `pattern`, if there are enough, on loopback and in `directory`, with free ports.

    Its ports are kept if all of them are free; if one is taken, all are chosen by the system.
    """
    if pattern is not None and len(pattern.nodes) >= NODES_MIN:
        wanted = [(node.id, node.rack, (node.client_port, node.peer_port, node.http_port)) for node in pattern.nodes]
    else:
        pattern = None
        wanted = [(i, f"rack-{i}", (9400 + i, 9500 + i, 9600 + i)) for i in range(1, NODES_MIN + 1)]
    if not all(listeners.is_free(Address(HOST, port)) for _, _, ports in wanted for port in ports):
        free = free_ports(3 * len(wanted))
        wanted = [(i, rack, (free.pop(), free.pop(), free.pop())) for i, rack, _ in wanted]
    nodes = tuple(
        NodeEntry(
            id=i,
            host=HOST,
            client_port=ports[0],
            peer_port=ports[1],
            http_port=ports[2],
            data=directory.resolve() / f"n{i}",
            rack=rack,
        )
        for i, rack, ports in wanted
    )
    if pattern is None:
        return ClusterConfig(cluster="demo", nodes=nodes)
    # Only what a topic gets by default is the demo's own: it asks for what it needs.
    return ClusterConfig(
        cluster="demo", nodes=nodes, defaults=Defaults(), timeouts=pattern.timeouts, limits=pattern.limits
    )


def free_ports(count: int) -> list[int]:
    """Different TCP ports of loopback on which nobody listens now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in sockets:
            probe.bind((HOST, 0))
        return [probe.getsockname()[1] for probe in sockets]
