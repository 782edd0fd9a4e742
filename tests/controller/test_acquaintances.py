"""A node that was away while another joined, and took over, finds its way back."""

from __future__ import annotations

from raftmq.ids import CONTROLLER_GROUP, NodeId
from tests.controller.nodes import Nodes, running

TIMEOUT_MS = 10_000


def test_a_node_that_never_heard_of_the_controllers_leader_asks_who_there_is() -> None:
    with running(nodes=3) as cluster:
        away = cluster.others(cluster.leader())[0]
        topic = cluster.create_topic("orders")
        cluster.cut_off(away)
        joined = join(cluster)
        replace(cluster, cluster.others(away)[0], joined)
        cluster.until(lambda: lead(cluster, joined), seconds=120)
        assert NodeId(joined) not in cluster.image(away).nodes

        cluster.network.heal_all()
        cluster.until(lambda: cluster.at(away).controller() is not None, seconds=60)
        cluster.until(lambda: NodeId(joined) in cluster.image(away).nodes)
        cluster.settle()
        assert cluster.leader(topic.partitions[0].group) in cluster.nodes


def join(cluster: Nodes) -> int:
    """Start a fourth node, and let it in; its number, once it is known."""
    node = cluster.add()
    node.boot()
    leader = cluster.leader()
    entry = node.config.entry
    operations = cluster.assembly(leader).operations
    cluster.do(leader, operations.add_node(NodeId(node.number), entry.host, entry.peer_port, TIMEOUT_MS))
    cluster.until(lambda: NodeId(node.number) in cluster.image(cluster.leader()).nodes)
    return node.number


def replace(cluster: Nodes, going: int, joined: int) -> None:
    """Drain `going`, whose vote on the metadata `joined` gets."""
    leader = cluster.leader()
    cluster.do(leader, cluster.assembly(leader).operations.drain_node(NodeId(going), TIMEOUT_MS))

    def votes() -> bool:
        voters = {voter.node for voter in cluster.group(cluster.leader()).node.membership.voters}
        return joined in voters and going not in voters

    cluster.until(votes, seconds=120)


def lead(cluster: Nodes, wanted: int) -> bool:
    """Whether `wanted` leads the controller; else its leader is asked to hand over."""
    leader = cluster.leader()
    if leader != wanted:
        cluster.assembly(leader).host.transfer(CONTROLLER_GROUP, NodeId(wanted))
        cluster.pass_time(1)
    return leader == wanted
