"""What a node says of its health at each step of its life, and why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from raftmq.observe.health import SYNC_PATIENCE_S, NodeState, live, ready
from raftmq.ports import DiskLevel

WELL = NodeState(disk_open=True, formed=True, replicas_open=True, controller=2, serving=True)


def reasons(state: NodeState) -> list[str]:
    return [f"{name}: {said}" for name, well, said in ready(state).findings if not well]


def test_a_node_that_serves_is_live_and_ready() -> None:
    assert live(WELL).is_well
    assert ready(WELL).is_well
    assert str(ready(WELL)) == (
        "[+] process: runs\n[+] disk: open\n[+] cluster: formed\n[+] replicas: open\n[+] controller: led by node 2\n"
        "[+] writes: come through\n[+] room: enough on the disk\n[+] clients: served\nok\n"
    )


def test_a_node_that_has_just_begun_says_all_that_is_missing() -> None:
    assert live(NodeState()).is_well
    assert reasons(NodeState()) == [
        "disk: not open yet",
        "cluster: not in a cluster yet",
        "replicas: not open yet",
        "controller: this node knows no leader of it",
        "clients: not served yet",
    ]


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (replace(WELL, formed=False, waiting="node 3 is away"), "cluster: not in a cluster yet: node 3 is away"),
        (
            replace(WELL, removed=True),
            "cluster: this node was removed: stop it, or empty its data directory and add it anew",
        ),
        (replace(WELL, replicas_open=False), "replicas: not open yet"),
        (replace(WELL, controller=None), "controller: this node knows no leader of it"),
        (replace(WELL, serving=False), "clients: not served yet"),
        (replace(WELL, stopping=True), "clients: the node is stopping"),
        (replace(WELL, busy_s=SYNC_PATIENCE_S + 2), "writes: the disk has not answered for 12 s"),
    ],
)
def test_each_reason_alone_is_enough_and_none_asks_for_a_restart(state: NodeState, reason: str) -> None:
    assert reasons(state) == [reason]
    assert not ready(state).is_well
    assert live(state).is_well
    assert str(ready(state)).endswith("\nnot ok\n")


def test_a_slow_sync_is_not_a_hanging_disk() -> None:
    assert ready(replace(WELL, busy_s=SYNC_PATIENCE_S)).is_well


def test_a_node_whose_disk_failed_is_neither() -> None:
    failed = replace(WELL, failure="a sync failed: Input/output error")
    assert not live(failed).is_well
    assert reasons(failed) == ["process: a sync failed: Input/output error"]


def test_a_disk_that_runs_full_is_told_and_sends_no_reader_away() -> None:
    for level in (DiskLevel.LOW, DiskLevel.FULL):
        verdict = ready(replace(WELL, disk=level))
        assert verdict.is_well
        assert "[+] room: enough" not in str(verdict)
