"""Who is meant by a target, and how nodes are launched."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path
from typing import Any, cast

import pytest

from raftmq.chaos import topology
from raftmq.chaos.arena import TOPIC, Arena, Means
from raftmq.chaos.experiment import ClusterPlan
from raftmq.chaos.nodes import Launcher
from raftmq.chaos.plans import Some
from raftmq.ids import NodeId


class Leaders:
    """Node 2 leads the load's partition 0, node 3 the controller."""

    def leader(self, topic: str, partition: int) -> NodeId | None:
        return {TOPIC: NodeId(2), "": NodeId(3)}[topic]


class Nobody:
    def leader(self, topic: str, partition: int) -> NodeId | None:
        return None


def arena(tmp_path: Path, observer: object) -> Arena:
    none: Any = None
    return Arena(
        folder=tmp_path, topology=topology.build(ClusterPlan(), tmp_path, proxied=False), processes=none, launcher=none,
        observer=cast(Any, observer), admin=none, proxies=None, shims={}, frames={}, means=Means(),
        rng=random.Random(1), python="python",
    )  # fmt: skip


@pytest.mark.parametrize(("target", "meant"), [("leader", (2,)), ("controller", (3,)), ("all", (1, 2, 3)), (1, (1,))])
def test_targets_that_leave_no_choice(tmp_path: Path, target: Some, meant: tuple[int, ...]) -> None:
    assert arena(tmp_path, Leaders()).choose(target) == meant


def test_a_follower_does_not_lead_and_a_majority_has_the_leader_in_it(tmp_path: Path) -> None:
    world = arena(tmp_path, Leaders())
    for _ in range(20):
        assert world.choose("follower")[0] in (1, 3)
        majority = world.choose("majority")
        assert len(majority) == 2
        assert 2 in majority


@pytest.mark.parametrize("target", ["leader", "controller", "follower", "random"])
def test_where_nobody_leads_any_node_is_meant(tmp_path: Path, target: Some) -> None:
    (node,) = arena(tmp_path, Nobody()).choose(target)
    assert node in (1, 2, 3)


def test_a_node_is_started_with_its_own_settings(tmp_path: Path) -> None:
    launcher = Launcher(tmp_path / "launch", "/bin/echo")
    launcher.set(NodeId(2), ["export SHOWN=two", 'set -- "$@" "$SHOWN"'])
    arguments = ["-m", "raftmq", "serve", "--node"]

    def said(node: int) -> str:
        command = [str(launcher.path), *arguments, str(node)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert said(1) == "-m raftmq serve --node 1"
    assert said(2) == "-m raftmq serve --node 2 two"
