"""The API level grows with the API: a new method belongs into LEVELS, and into the comment of `api_level`."""

from __future__ import annotations

import re
from pathlib import Path

from raftmq.broker.broker_service import API_LEVEL
from raftmq.broker.dispatch import services

ROOT = Path(__file__).parent.parent.parent

LEVELS = {
    1: "Broker: Produce Fetch ListOffsets InitProducer GetMetadata GetServerInfo; "
    "Admin: CreateTopic DeleteTopic ListTopics DescribeTopic; Cluster: DescribeCluster ListReplicas TransferLeader",
    2: "Broker: ProduceStream Subscribe",
    3: "Cluster: AddNode DrainNode RemoveNode MoveReplica RepairNode ListOperations GetOperation CancelOperation",
    4: "Admin: AlterTopic",
    5: "Broker: DescribeProducers",
    6: "Queue: Receive Ack Release Retry Park Extend SetGroup DeleteGroup ListGroups DescribeGroup Peek Redrive "
    "SeekGroup ResumeGroup CancelScheduled Work AckAndPublish FindProcessedKeys; "
    "Exchanges: DeclareExchange DeleteExchange Bind Unbind ListExchanges TraceRoute Publish; "
    "Groups: Heartbeat CommitOffsets FetchOffsets ListConsumerGroups DescribeConsumerGroup ResetOffsets DeleteOffsets "
    "DeleteConsumerGroup; Admin: SetQuota DeleteQuota ListQuotas",
}
"""What each level brought. Rows of levels that were released stay as they are."""


def test_every_method_came_with_a_level() -> None:
    brought = [
        f"{service}.{method}"
        for row in LEVELS.values()
        for service, methods in (part.split(": ") for part in row.split("; "))
        for method in methods.split()
    ]
    assert len(brought) == len(set(brought))
    assert set(brought) == {f"{service.name}.{method.name}" for service in services() for method in service.methods}


def test_the_level_is_that_of_the_newest_and_the_proto_tells_of_each() -> None:
    assert max(LEVELS) == API_LEVEL
    comment = re.search(r"((?: *//.*\n)+) *uint32 api_level", (ROOT / "proto/raftmq/v1/broker.proto").read_text())
    assert comment is not None
    assert [int(level) for level in re.findall(r"(\d+): ", comment[1])] == sorted(LEVELS)
