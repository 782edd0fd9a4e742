"""Small scopes, wholly or thinned out: broken links between three nodes, and crashes at every turn of a node."""

from __future__ import annotations

from itertools import islice

import pytest

from raftmq.sim.exhaustive import crash_points, link_graphs
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
