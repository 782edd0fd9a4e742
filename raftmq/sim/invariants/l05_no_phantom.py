"""L5: every record that is read was sent, and its producer was never told that it surely was not stored. Exception:
none; an unknown outcome allows both."""

from __future__ import annotations

from raftmq.sim.invariants.base import Final, Invariant
from raftmq.sim.oracle import Operation, Oracle, Poll, Send, Told


class NoPhantom(Invariant):
    name = "L5 no phantom"

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        self._observed: set[bytes] = set()

    def ended(self, operation: Operation) -> None:
        if isinstance(operation, Poll):
            self._observed.add(operation.record.value or b"")
            self._check(operation.record.value or b"")
        elif isinstance(operation, Send) and operation.told is Told.FAILED:
            self.require(
                operation.value not in self._observed,
                f"{operation.value!r} was read, and its producer is told NOT_APPLIED: {operation.reason}",
            )

    def final(self, final: Final) -> None:
        for records in final.read.values():
            for _, value, _ in records:
                self._check(value)

    def _check(self, value: bytes) -> None:
        send = self._oracle.sends.get(value)
        self.require(send is not None, f"{value!r} was read, and nobody sent it")
        assert send is not None
        self.require(
            send.told is not Told.FAILED,
            f"{value!r} was read, and its producer was told NOT_APPLIED: {send.reason}",
        )
