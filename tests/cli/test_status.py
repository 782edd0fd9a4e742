"""The line of health, and what stands beneath it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace

import pytest
from rich.console import Console

from raftmq.cli import status
from raftmq.cli.status import Health, Level, Snapshot
from raftmq.client.types import (
    ClusterDescription,
    ClusterNodeDescription,
    ClusterVersion,
    NodeDescription,
    PartitionDescription,
    ReplicaDescription,
    TopicDescription,
)


def node(number: int, *, fenced: bool = False, disk: str = "ample") -> ClusterNodeDescription:
    info = NodeDescription(number, "127.0.0.1", 9400 + number, "abc"[number - 1], fenced)
    return ClusterNodeDescription(info, 1, 100, 1, 2, controller_voter=True, disk=disk)


def partition(number: int, *, leader: int | None = 1, in_sync: Sequence[int] = (1, 2, 3)) -> PartitionDescription:
    return PartitionDescription(number, number + 1, leader, 4, (1, 2, 3), tuple(in_sync))


def replica(number: int, *, role: str = "follower", suspect: bool = False) -> ReplicaDescription:
    return ReplicaDescription(
        topic="orders",
        partition=number,
        group_id=number + 1,
        role=role,
        term=4,
        leader=1,
        last_index=9,
        persisted_index=9,
        commit_index=9,
        applied_index=9,
        log_start_offset=0,
        log_end_offset=8,
        high_watermark=8,
        suspect=suspect,
        in_sync=(1, 2, 3) if role == "leader" else (),
        lag={1: 0, 2: 0, 3: 1500} if role == "leader" else {},
        chain_hash=b"\x01\x02",
        chain_index=9,
    )


TOPIC = TopicDescription("orders", 1, (partition(0), partition(1)), 3, 2, 1024)
CLUSTER = ClusterDescription("c", "local", (node(1), node(2), node(3)), 2, 3, (TOPIC,))
GOOD = Snapshot(CLUSTER, {1: (replica(0, role="leader"),), 2: (replica(0),), 3: (replica(0),)})


def with_partition(changed: PartitionDescription) -> Snapshot:
    topic = replace(TOPIC, partitions=(changed, TOPIC.partitions[1]))
    return replace(GOOD, cluster=replace(CLUSTER, topics=(topic,)))


def test_a_cluster_without_fault_is_healthy() -> None:
    assert str(status.health(GOOD)) == "healthy: 3 nodes, controller on node 2; 2 partitions led and in sync"


def test_a_cluster_without_topics_is_healthy() -> None:
    empty = replace(GOOD, cluster=replace(CLUSTER, topics=()))
    assert status.health(empty) == Health(Level.HEALTHY, ("3 nodes, controller on node 2", "no topics yet"))


@pytest.mark.parametrize(
    ("snapshot", "line"),
    [
        (replace(GOOD, cluster=replace(CLUSTER, controller=None)), "unavailable: the controller has no leader"),
        (with_partition(partition(0, leader=None)), "unavailable: 1 partition without a leader"),
        (
            with_partition(partition(0, in_sync=(1,))),
            "unavailable: 1 partition with too few replicas in sync to be written to; "
            "1 partition with a replica out of sync",
        ),
        (with_partition(partition(0, in_sync=(1, 2))), "degraded: 1 partition with a replica out of sync"),
        (replace(GOOD, replicas={**GOOD.replicas, 3: None}), "degraded: node 3 away"),
        (
            replace(GOOD, cluster=replace(CLUSTER, nodes=(node(1), node(2, fenced=True), node(3, fenced=True)))),
            "degraded: nodes 2, 3 away",
        ),
        (
            replace(GOOD, replicas={**GOOD.replicas, 2: (replica(0, suspect=True),)}),
            "degraded: suspect (may have lost synced data): node 2",
        ),
        (
            replace(GOOD, cluster=replace(CLUSTER, nodes=(node(1, disk="full"), node(2, disk="low"), node(3)))),
            "degraded: little room on the disk of node 1, 2: no records are taken there",
        ),
    ],
)
def test_each_fault_has_its_words(snapshot: Snapshot, line: str) -> None:
    assert str(status.health(snapshot)) == line


def test_a_replica_that_comes_back_is_not_shown_in_sync() -> None:
    behind = partition(0, in_sync=(1, 2))
    assert [with_partition(behind).returning("orders", behind, number) for number in (1, 2, 3)] == [
        "", "", "catching up",
    ]  # fmt: skip
    suspect = replace(GOOD, replicas={**GOOD.replicas, 3: (replica(0, suspect=True),), 2: None})
    whole = partition(0)
    assert [suspect.returning("orders", whole, number) for number in (1, 2, 3)] == ["", "", "suspect"]
    row = dict(zip(status.PARTITION_COLUMNS, status.partition_row(TOPIC, whole, suspect), strict=True))
    assert (row["in sync"], row["coming back"]) == ("1 2", "[yellow]3: suspect[/]")
    away = replace(GOOD, replicas={**GOOD.replicas, 3: None})
    assert away.returning("orders", behind, 3) == "away"
    assert status.partition_row(TOPIC, whole, GOOD)[6] == "-"


def test_lag_is_what_the_leader_says() -> None:
    assert [GOOD.lag("orders", 0, number) for number in (1, 2, 3)] == [0, 0, 1500]
    assert GOOD.lag("orders", 1, 1) is None


def picture(snapshot: Snapshot) -> str:
    out = io.StringIO()
    Console(file=out, width=120).print(status.render(snapshot))
    return out.getvalue()


def test_the_picture_begins_with_the_health_and_has_every_node_and_partition() -> None:
    lines = picture(GOOD).splitlines()
    assert lines[0].strip() == str(status.health(GOOD))
    assert sum("127.0.0.1:940" in line for line in lines) == 3
    assert sum(line.startswith("orders") for line in lines) == 2
    assert "3: 1,500" in picture(GOOD)


@pytest.mark.parametrize(
    ("version", "line"),
    [
        (ClusterVersion(3, 3), "cluster version 3"),
        (ClusterVersion(2, 3, (3,)), "cluster version 2; version 3 waits for node 3 (understands 2)"),
        (ClusterVersion(1, 2, (), (9,)), "cluster version 1; version 2 waits for node 9 (has yet to register)"),
        (ClusterVersion(1, 2), "cluster version 1; version 2 waits for the controller"),
        (ClusterVersion(2, 2, (), (3,)), "cluster version 2; the next one would wait for node 3 (has yet to register)"),
    ],
)  # fmt: skip
def test_it_says_what_holds_the_cluster_version_back(version: ClusterVersion, line: str) -> None:
    nodes = tuple(replace(one, max_cluster_version=2) for one in CLUSTER.nodes)
    assert status.version_line(version, nodes) == line
    shown = replace(GOOD, cluster=replace(CLUSTER, nodes=nodes, version=version))
    assert line in " ".join(picture(shown).split())
    told = status.as_json(shown)["version"]
    assert isinstance(told, dict)
    assert (told["version"], told["behind"], told["unheard"]) == (version.version, version.behind, version.unheard)


def test_a_node_that_is_too_old_to_tell_the_version_is_shown_without() -> None:
    assert "cluster version" not in picture(GOOD)
    assert status.as_json(GOOD)["version"] is None


def test_the_json_has_text_for_bytes() -> None:
    document = status.as_json(GOOD)
    assert document["health"] == "healthy"
    replicas = document["replicas"]
    assert isinstance(replicas, dict)
    assert replicas["1"][0]["chain_hash"] == "0102"
    assert replicas["1"][0]["lag"] == {"1": 0, "2": 0, "3": 1500}
