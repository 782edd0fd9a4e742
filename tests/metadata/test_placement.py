"""Placement: the properties it promises, and a few cases to read."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftmq.errors import NotEnoughReplicas
from raftmq.ids import NodeId, ReplicaId, StoreId
from raftmq.metadata.placement import Assignment, Candidate, Load, place


def node(number: int, rack: str = "", *, fenced: bool = False) -> Candidate:
    return Candidate(ReplicaId(NodeId(number), StoreId(100 + number)), rack, fenced)


def numbers(assignments: list[Assignment]) -> list[list[int]]:
    return [[replica.node for replica in replicas] for replicas in assignments]


def spread(counts: Counter[ReplicaId], nodes: list[Candidate]) -> int:
    values = [counts[candidate.id] for candidate in nodes]
    return max(values) - min(values)


def replica_counts(assignments: list[Assignment]) -> Counter[ReplicaId]:
    return Counter(replica for replicas in assignments for replica in replicas)


def leader_counts(assignments: list[Assignment]) -> Counter[ReplicaId]:
    return Counter(replicas[0] for replicas in assignments)


def test_three_nodes_lead_one_partition_each() -> None:
    assert numbers(place([node(1), node(2), node(3)], 3, 3, {})) == [[1, 2, 3], [2, 1, 3], [3, 1, 2]]


def test_two_racks_of_unequal_size_share_every_partition() -> None:
    assignments = place([node(1, "a"), node(2, "a"), node(3, "b")], 4, 2, {})
    assert all(3 in one for one in numbers(assignments))
    assert replica_counts(assignments) == {node(1).id: 2, node(2).id: 2, node(3).id: 4}
    assert spread(leader_counts(assignments), [node(1), node(2), node(3)]) == 1


def test_a_large_rack_carries_more_than_a_small_one() -> None:
    nodes = [node(1, "a"), node(2, "a"), node(3, "a"), node(4, "b"), node(5, "c")]
    assert set(replica_counts(place(nodes, 10, 1, {})).values()) == {2}


def test_what_nodes_carry_already_counts() -> None:
    already = {NodeId(1): Load(replicas=4, leaders=2), NodeId(2): Load(replicas=4, leaders=2)}
    assert numbers(place([node(1), node(2), node(3)], 2, 1, already)) == [[3], [3]]


def test_present_leaders_count() -> None:
    already = {NodeId(1): Load(3, 3), NodeId(2): Load(3, 0), NodeId(3): Load(3, 0)}
    leaders = [replicas[0] for replicas in numbers(place([node(1), node(2), node(3)], 4, 3, already))]
    assert sorted(leaders) == [2, 2, 3, 3]


def test_fenced_nodes_get_nothing() -> None:
    nodes = [node(1), node(2, fenced=True), node(3), node(4)]
    assert 2 not in {one for replicas in numbers(place(nodes, 8, 3, {})) for one in replicas}


def test_too_few_live_nodes_are_refused_and_the_fenced_ones_named() -> None:
    with pytest.raises(NotEnoughReplicas, match=r"3 replicas .* there are 2 \(nodes \[2, 3\] are fenced\)"):
        place([node(1), node(3, fenced=True), node(2, fenced=True), node(4)], 1, 3, {})
    with pytest.raises(NotEnoughReplicas, match=r"there are 0$"):
        place([], 1, 1, {})


clusters = st.lists(st.sampled_from(["", "a", "b", "c"]), min_size=1, max_size=9).map(
    lambda racks: [node(number, rack) for number, rack in enumerate(racks, start=1)]
)
loads = st.dictionaries(st.integers(1, 9).map(NodeId), st.builds(Load, st.integers(0, 20), st.integers(0, 20)))


def rack_of(candidate: Candidate) -> str:
    return candidate.rack or f"node {candidate.id.node}"


@given(clusters, st.integers(1, 20), st.integers(1, 5), loads)
def test_replicas_lie_on_distinct_nodes_in_as_many_racks_as_there_are(
    nodes: list[Candidate], partitions: int, factor: int, already: dict[NodeId, Load]
) -> None:
    factor = min(factor, len(nodes))
    racks = {candidate.id: rack_of(candidate) for candidate in nodes}
    assignments = place(nodes, partitions, factor, already)
    assert len(assignments) == partitions
    for replicas in assignments:
        assert len(set(replicas)) == len(replicas) == factor
        assert len({racks[replica] for replica in replicas}) == min(factor, len(set(racks.values())))


@given(st.integers(1, 4), st.integers(1, 3), st.integers(1, 30), st.integers(1, 6))
def test_equal_nodes_in_equal_racks_carry_and_lead_alike(racks: int, size: int, partitions: int, factor: int) -> None:
    nodes = [node(rack * size + number + 1, f"rack {rack}") for rack in range(racks) for number in range(size)]
    assignments = place(nodes, partitions, min(factor, len(nodes)), {})
    assert spread(replica_counts(assignments), nodes) <= 1
    assert spread(leader_counts(assignments), nodes) <= 1


@given(st.integers(1, 9), st.integers(1, 30), st.integers(1, 5))
def test_equal_nodes_without_racks_carry_and_lead_alike(count: int, partitions: int, factor: int) -> None:
    nodes = [node(number) for number in range(1, count + 1)]
    assignments = place(nodes, partitions, min(factor, count), {})
    assert spread(replica_counts(assignments), nodes) <= 1
    assert spread(leader_counts(assignments), nodes) <= 1


@settings(max_examples=60)
@given(clusters, st.integers(1, 5), st.integers(1, 3), loads)
def test_leaders_are_as_even_as_the_replicas_allow(
    nodes: list[Candidate], partitions: int, factor: int, already: dict[NodeId, Load]
) -> None:
    """Whatever the shape of the cluster: compared with every possible choice of leaders for the same replicas."""

    def unevenness(leaders: tuple[ReplicaId, ...]) -> int:
        counts = Counter(leaders)
        return sum((already.get(one.node, Load()).leaders + counts[one]) ** 2 for one in involved)

    assignments = place(nodes, partitions, min(factor, len(nodes)), already)
    involved = sorted({replica for replicas in assignments for replica in replicas})
    best = min(unevenness(leaders) for leaders in product(*assignments))
    assert unevenness(tuple(replicas[0] for replicas in assignments)) == best


@given(clusters, st.integers(1, 12), st.integers(1, 3), loads, st.randoms(use_true_random=False))
def test_the_order_of_the_nodes_does_not_matter(
    nodes: list[Candidate], partitions: int, factor: int, already: dict[NodeId, Load], random: object
) -> None:
    factor = min(factor, len(nodes))
    shuffled = list(nodes)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert place(shuffled, partitions, factor, already) == place(nodes, partitions, factor, already)


def test_the_order_of_hashes_does_not_matter() -> None:
    script = (
        "from raftmq.ids import ReplicaId\n"
        "from raftmq.metadata.placement import Candidate, place\n"
        "print(place([Candidate(ReplicaId(n, n), 'rack %d' % (n % 4)) for n in range(1, 10)], 20, 3, {}))"
    )
    answers = {
        subprocess.run(
            [sys.executable, "-c", script], env={**os.environ, "PYTHONHASHSEED": seed}, check=True, capture_output=True
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(answers) == 1
