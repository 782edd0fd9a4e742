"""What the log of a topic's partitions is for."""

from enum import IntEnum


class TopicKind(IntEnum):
    """Chooses the state machine of a topic's partitions. The numbers are on disk: never change or reuse one."""

    RECORDS = 0
    """Of users."""
    CONSUMER_GROUPS = 1
    """Internal: each partition coordinates the consumer groups whose names hash to it."""
