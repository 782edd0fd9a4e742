"""Small scopes, wholly or thinned out: broken links between three nodes, and crashes at every turn of a node."""

from __future__ import annotations

from itertools import islice

import pytest

from raftmq.sim.exhaustive import crash_points, install_points, link_graphs
from raftmq.sim.weather import Cut


@pytest.mark.parametrize("how", [Cut.DROP, Cut.HOLD])
def test_every_graph_of_broken_links_heals(how: Cut) -> None:
    """64 graphs; every fifth here, all of them where time allows."""
    results = list(islice(link_graphs(how=how), 0, None, 5))
    assert len(results) == 13
    assert [(graph, result.error) for graph, result in results if not result.passed] == []


@pytest.mark.parametrize("power", [False, True], ids=["kill", "power"])
@pytest.mark.parametrize("node", [1, 2])
def test_a_node_may_crash_at_any_turn(node: int, power: bool) -> None:
    results = list(crash_points(node, power, every=17))
    assert len(results) >= 5
    assert [(point, result.error) for point, result in results if not result.passed] == []


@pytest.mark.parametrize("node, every", [(1, 190), (3, 80)], ids=["sender", "installer"])
def test_a_node_may_crash_at_any_turn_while_a_snapshot_is_installed(node: int, every: int) -> None:
    """`every`: thinned out; with 1 in its place it is all of them, some 830 and 340."""
    results = list(install_points(node, power=True, every=every))
    assert len(results) >= 4
    assert [(point, result.error) for point, result in results if not result.passed] == []
    assert sum(result.states["snapshots installed"] for _, result in results) >= len(results)
