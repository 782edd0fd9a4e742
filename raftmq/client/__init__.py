"""The Python client. Every other language has a full client too: the generated stubs.

    connect ─> Client ─> admin, cluster, exchanges
                  │
                  ├────> Producer ──> PartitionSender (one per partition: window, retries) ─┐
                  ├────> QueueWorker ──> Settler (one per partition: verdicts, gathered) ────┤
                  ├────> Consumer ──> PartitionFetcher (one per partition: prefetch) ───────┤
                  │                                                                         v
                  └────> MetadataCache (nodes, topics, leaders) <── learns ──────────── Router ──> NodeChannel

What each part promises stands in its module; README.md beside this file has an example for every use. The client
knows the protocol, the record format and the errors, and nothing of the broker behind them.
"""

from raftmq.client import blocking
from raftmq.client.client import Client, connect
from raftmq.client.connection import AddressMap
from raftmq.client.consumer import Consumer
from raftmq.client.exchange_types import (
    BindingDescription,
    ExchangeDescription,
    Published,
    RouteDescription,
    RouteStep,
    TopicReceipt,
)
from raftmq.client.group_consumer import GroupConsumer
from raftmq.client.producer import Producer
from raftmq.client.queue import AckReceipt, QueueMessage, QueueWorker
from raftmq.client.queue_admin import (
    PeekedMessage,
    ProcessedKey,
    QueueCounts,
    QueueGroupDescription,
    QueueSettings,
    Redriven,
)
from raftmq.client.replies import CORRELATION_ID, REPLY_TO, Requester
from raftmq.client.retry import RetryPolicy
from raftmq.client.types import (
    Acks,
    BatchReceipt,
    ClusterDescription,
    ClusterNodeDescription,
    ClusterVersion,
    ConsumedBatch,
    ConsumedRecord,
    Isolation,
    NewRecord,
    NodeDescription,
    PartitionDescription,
    PartitionOffsets,
    RecordReceipt,
    ReplicaDescription,
    ServerDescription,
    TopicDescription,
)

__all__ = [
    "CORRELATION_ID",
    "REPLY_TO",
    "AckReceipt",
    "Acks",
    "AddressMap",
    "BatchReceipt",
    "BindingDescription",
    "Client",
    "ClusterDescription",
    "ClusterNodeDescription",
    "ClusterVersion",
    "ConsumedBatch",
    "ConsumedRecord",
    "Consumer",
    "ExchangeDescription",
    "GroupConsumer",
    "Isolation",
    "NewRecord",
    "NodeDescription",
    "PartitionDescription",
    "PartitionOffsets",
    "PeekedMessage",
    "ProcessedKey",
    "Producer",
    "Published",
    "QueueCounts",
    "QueueGroupDescription",
    "QueueMessage",
    "QueueSettings",
    "QueueWorker",
    "RecordReceipt",
    "Redriven",
    "ReplicaDescription",
    "Requester",
    "RetryPolicy",
    "RouteDescription",
    "RouteStep",
    "ServerDescription",
    "TopicDescription",
    "TopicReceipt",
    "blocking",
    "connect",
]
