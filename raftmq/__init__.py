"""raftmq: a Raft-replicated clustered message broker.

    async with raftmq.connect("127.0.0.1:9401") as client:
        async with client.producer("orders") as producer:
            receipt = await producer.send(b"hello", key=b"customer-7")

The client and the errors are imported from here; the broker lives in the packages below (see README.md for the
layers). Names of the client are loaded when they are first used: the packages below need no gRPC to be imported.
"""

from typing import TYPE_CHECKING

from raftmq import errors
from raftmq.errors import Outcome, RaftmqError

if TYPE_CHECKING:
    from raftmq.client import (
        Acks,
        BatchReceipt,
        Client,
        ConsumedBatch,
        ConsumedRecord,
        Consumer,
        GroupConsumer,
        Isolation,
        NewRecord,
        Producer,
        Published,
        QueueMessage,
        QueueSettings,
        QueueWorker,
        RecordReceipt,
        RetryPolicy,
        blocking,
        connect,
    )
else:

    def __getattr__(name: str) -> object:
        if name in __all__:
            from raftmq import client

            return getattr(client, name)
        raise AttributeError(f"module 'raftmq' has no attribute {name!r}")


from raftmq.version import __version__

__all__ = [
    "Acks",
    "BatchReceipt",
    "Client",
    "ConsumedBatch",
    "ConsumedRecord",
    "Consumer",
    "GroupConsumer",
    "Isolation",
    "NewRecord",
    "Outcome",
    "Producer",
    "Published",
    "QueueMessage",
    "QueueSettings",
    "QueueWorker",
    "RaftmqError",
    "RecordReceipt",
    "RetryPolicy",
    "__version__",
    "blocking",
    "connect",
    "errors",
]
