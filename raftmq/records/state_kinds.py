"""The kinds of derived rows that a state machine keeps beside its log."""

from enum import IntEnum


class StateKind(IntEnum):
    """Second part of a ``state`` key. The numbers are on disk: never change or reuse one."""

    APPLIED = 1
    """How far the log is applied, and the numbers that go with it. One row, empty key."""
    PRODUCER = 2
    """One row a producer; the key is its id, 8 bytes big-endian."""
    MESSAGE_ID = 3
    """One row a message id that is remembered; the key is its number, 8 bytes big-endian."""
