"""What waits to be sent on one stream: two lanes, bounded together. No sockets here.

control  heartbeats, votes, answers, notices    goes first
data     appends                                keeps its order
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from raftmq.rpc.codec import Piece

MESSAGE_BYTES = 256 * 1024
"""A message on the wire is filled up to this; only a piece that is larger by itself makes a larger one."""


@dataclass(frozen=True, slots=True)
class OutboxLimits:
    """Bounds of one stream's queue. What does not fit is dropped, and the stream starts over."""

    max_pieces: int = 8_192
    max_bytes: int = 16 * 1024 * 1024


class Outbox:
    """A bounded queue of pieces, taken out as messages of about ``MESSAGE_BYTES``.

    Invariant: ``pieces`` and ``bytes`` are what both lanes hold together. A frame that finds the queue empty always
    fits, so that no frame is too large for ever.
    """

    def __init__(self, limits: OutboxLimits) -> None:
        self._limits = limits
        self._control: deque[Piece] = deque()
        self._data: deque[Piece] = deque()
        self.bytes = 0

    @property
    def pieces(self) -> int:
        return len(self._control) + len(self._data)

    def offer(self, pieces: Sequence[Piece]) -> bool:
        """Queue the pieces of one frame: all of them, or (False) none."""
        size = sum(len(piece.data) for piece in pieces)
        over_pieces = self.pieces + len(pieces) > self._limits.max_pieces
        over_bytes = self.bytes + size > self._limits.max_bytes
        if self.pieces and (over_pieces or over_bytes):
            return False
        for piece in pieces:
            (self._control if piece.is_control else self._data).append(piece)
        self.bytes += size
        return True

    def take(self) -> bytes | None:
        """The next message, joined from as many pieces as fit; None where nothing waits."""
        taken: list[bytes] = []
        size = 0
        has_single = False
        for lane in (self._control, self._data):
            while lane:
                piece = lane[0]
                too_large = size + len(piece.data) > MESSAGE_BYTES
                if taken and (too_large or (has_single and piece.is_single)):
                    return self._joined(taken, size)
                lane.popleft()
                taken.append(piece.data)
                size += len(piece.data)
                has_single = has_single or piece.is_single
        return self._joined(taken, size) if taken else None

    def clear(self) -> None:
        """Forget everything: the stream it was meant for has ended."""
        self._control.clear()
        self._data.clear()
        self.bytes = 0

    def _joined(self, taken: list[bytes], size: int) -> bytes:
        self.bytes -= size
        return taken[0] if len(taken) == 1 else b"".join(taken)
