"""Damage on one node's disk costs that node one replica, for as long as it takes to copy it, and nobody a record."""

from __future__ import annotations

import pytest

from raftmq.cli.supervisor import LocalCluster
from raftmq.errors import RaftmqError
from raftmq.ids import NodeId
from raftmq.storage.keys import Family, pair_key
from raftmq.storage.rocks import RocksStore
from raftmq.storage.verify import verify
from tests.integration.workload import Workload, until

pytestmark = pytest.mark.integration

NODE = NodeId(2)


async def test_a_damaged_log_is_fetched_again_and_its_neighbours_go_on(cluster: LocalCluster) -> None:
    async with Workload(cluster) as load:
        await load.more()
        await cluster.kill(NODE)
        directory = cluster.config.node(NODE).data_directory
        store = RocksStore(directory, node=NODE)
        damaged = store.replicas()[-1]
        batch = store._database.batch()
        batch.put(Family.LOG, pair_key(damaged.generation, damaged.raft_start + 1), b"scratched")
        store._database.write(batch)
        store.close()
        assert not verify(directory).is_sound
        await cluster.start(NODE)
        await load.more()
        await load.check()

        async def is_whole() -> bool:
            try:
                replicas = await load.client.cluster.list_replicas(NODE)
            except RaftmqError:
                return False
            return len(replicas) == 4 and not any(replica.suspect for replica in replicas)

        await until(is_whole)
    assert "replica is damaged and starts over" in cluster.log_tail(NODE, 1000)
    assert await cluster.stop(NODE)
    report = verify(directory)
    assert report.is_sound, report.findings
    assert damaged.generation not in [one.generation for one in report.replicas]
