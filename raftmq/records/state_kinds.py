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
    CONSUMER_GROUP = 16
    """One row a consumer group; the key is its name."""
    COMMITTED_OFFSET = 17
    """One row a committed offset; the key is the group's name, the topic id and the partition."""
    QUEUE_GROUP = 20
    """One row a queue group; the key of it and of all of its rows begins with its number, 8 bytes big-endian."""
    QUEUE_OPEN = 21
    """One row a page of offsets that are open in a group; the number of the page follows."""
    QUEUE_LEASE = 22
    """One row a lease; its number follows."""
    QUEUE_RECORDS = 23
    """One row a page of records of which a group knows something; the number of the page follows."""
    QUEUE_PARKED = 24
    """One row a parked record; its offset follows."""
    QUEUE_PROCESSED = 25
    """One row a key that was processed; its number follows."""
    QUEUE_HELD = 26
    """One row a record that outlives the log; the key is its offset alone, 8 bytes big-endian."""
