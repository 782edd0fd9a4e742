"""Every bad request of the table, against a real node: refused for its reason, nothing changed, the next one served."""

from __future__ import annotations

import pytest

from raftmq.errors import Outcome
from tests.hostile.node import METHODS, Node
from tests.hostile.rows import Row
from tests.hostile.table import ROWS

pytestmark = pytest.mark.integration

MEMORY_MIB = 96
"""What the whole table may leave behind: caches and fragments, no request."""


def test_every_method_has_rows() -> None:
    """But for those whose requests have nothing in them that could be wrong."""
    asks = {name for name, method in METHODS.items() if method.input_type.fields}
    blamed = {row.method for row in ROWS if row.field}
    harmless = {"/raftmq.internal.v1.Peer/Identify", "/raftmq.v1.Admin/ListTopics"}
    assert asks - blamed == harmless, "give each a row in table.py"


def test_the_whole_table(node: Node) -> None:
    """One test for all rows: a node of its own for each would take a minute, and what one leaves behind shows in the
    next. Every row that is not answered as it says is told at the end."""
    for row in ROWS[:40]:
        node.call(row.method, row.messages)
    before = node.memory_mib()
    wrong = [f"{row}: {fault}" for row in ROWS if (fault := _fault(node, row)) is not None]
    assert wrong == []
    assert node.memory_mib() - before < MEMORY_MIB


def _fault(node: Node, row: Row) -> str | None:
    """What is wrong with the answer to a row."""
    with node.unchanged():
        error = node.call(row.method, row.messages).error
    if error is None:
        return "it was accepted"
    told = (error.reason, error.field)
    if told != (row.reason, row.field):
        return f"{told} instead of {(row.reason, row.field)}: {error.message}"
    if error.outcome is not Outcome.NOT_APPLIED:
        return f"the outcome is {error.outcome}"
    return None if error.message else "it does not say what was expected"
