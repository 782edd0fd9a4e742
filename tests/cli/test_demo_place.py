"""Where a demo's cluster may live."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from raftmq import config
from raftmq.cli.demo import place
from raftmq.cli.exits import CommandError
from raftmq.config import ClusterConfig


def pattern(nodes: int) -> ClusterConfig:
    ports = iter(place.free_ports(3 * nodes))
    lines = [
        f"- {{id: {i}, host: 10.0.0.{i}, client_port: {next(ports)}, peer_port: {next(ports)}, "
        f"http_port: {next(ports)}, data: /var/lib/raftmq, rack: r{i}}}"
        for i in range(1, nodes + 1)
    ]
    text = "\n".join(["cluster: real", "insecure: true", "timeouts: {session_timeout_ms: 5000}", "nodes:", *lines])
    return config.parse(text)


def test_the_demo_takes_ports_racks_and_times_of_the_file_but_neither_its_hosts_nor_its_data(tmp_path: Path) -> None:
    real = pattern(3)
    demo = place.topology(real, tmp_path)
    assert [(n.id, n.client_port, n.peer_port, n.http_port, n.rack) for n in demo.nodes] == [
        (n.id, n.client_port, n.peer_port, n.http_port, n.rack) for n in real.nodes
    ]
    assert {n.host for n in demo.nodes} == {"127.0.0.1"}
    assert [n.data for n in demo.nodes] == [tmp_path / f"n{i}" for i in (1, 2, 3)]
    assert demo.timeouts.session_timeout_ms == 5000
    assert (demo.cluster, demo.insecure) == ("demo", False)


def test_if_a_port_is_taken_all_are_chosen_anew(tmp_path: Path) -> None:
    real = pattern(3)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", real.nodes[1].peer_port))
        taken.listen()
        demo = place.topology(real, tmp_path)
    ports = {(n.client_port, n.peer_port, n.http_port) for n in demo.nodes}
    assert not ports & {(n.client_port, n.peer_port, n.http_port) for n in real.nodes}


@pytest.mark.parametrize("of", [None, 1])
def test_without_three_nodes_in_the_file_there_are_three_all_the_same(of: int | None, tmp_path: Path) -> None:
    demo = place.topology(pattern(of) if of else None, tmp_path)
    assert [n.id for n in demo.nodes] == [1, 2, 3]


def test_a_directory_of_an_earlier_demo_is_emptied(tmp_path: Path) -> None:
    (tmp_path / "cluster.yml").write_text(config.dump(place.topology(None, tmp_path)))
    (tmp_path / "n1").mkdir()
    place.clear(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years")
    with pytest.raises(CommandError, match="it is left alone"):
        place.clear(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years"
