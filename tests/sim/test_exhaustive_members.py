"""A replica moves, and at each turn of it (thinned out here) a node dies, or somebody cancels."""

from __future__ import annotations

import pytest

from raftmq.sim.exhaustive_members import Happens, cancel, die, moves


@pytest.mark.parametrize("happens, node", [(die, 1), (cancel, 1)], ids=["die", "cancel"])
def test_a_move_comes_to_an_end_whatever_happens_at_any_turn(happens: Happens, node: int) -> None:
    results = list(moves(happens, node, every=67))
    assert len(results) >= 2
    assert [(point, result.error) for point, result in results if not result.passed] == []
