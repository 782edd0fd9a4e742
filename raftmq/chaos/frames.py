"""Faults between nodes without any proxy: made in the node that receives, by a layer around what arrives there.

A node that is to have them is started through ``raftmq.chaos.wrapped``, which puts that layer in from outside; no
module of the server knows of it. The experiment and the layer share a file of cells. This is how messages come twice,
out of order or out of date, which no byte stream lets happen; and how links are cut where there is no toxiproxy-server.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

from raftmq.chaos.cells import Cells

VARIABLE = "RAFTMQ_CHAOS_FRAMES"


class Order(IntEnum):
    """What the experiment asks for. Masks have bit n for node n; the others are of 1000 frames so many."""

    DROP_FROM = 0
    MUTE_TO = 1
    """Answers to calls of these nodes are never given: what this node says to them does not arrive."""
    HOLD_FROM = 2
    DELAY_FROM = 3
    DELAY_MS = 4
    DUPLICATE = 5
    REORDER = 6
    REPLAY = 7


class Count(IntEnum):
    """What the layer has done. Frames, but for CALLS."""

    ARRIVED = 16
    DROPPED = 17
    HELD = 18
    DELAYED = 19
    DUPLICATED = 20
    REORDERED = 21
    REPLAYED = 22
    CALLS = 23
    """Forwarded calls, questions who this is and parts of snapshots that got no answer."""


class Frames(Cells):
    """The cells of one node."""

    @property
    def environment(self) -> tuple[str, ...]:
        """Shell lines that start the node through the wrapper. Its arguments end as they did: they tell who it is."""
        return (f'export {VARIABLE}="{self.path}"', 'set -- -m raftmq.chaos.wrapped "$@"')

    def mark(self, order: Order, nodes: Iterable[int], marked: bool) -> None:
        """Put nodes into a mask, or take them out."""
        for node in nodes:
            self[order] = self[order] | 1 << node if marked else self[order] & ~(1 << node)


def is_marked(cells: Cells, order: Order, node: int) -> bool:
    return bool(cells[order] >> node & 1)
