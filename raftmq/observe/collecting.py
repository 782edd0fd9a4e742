"""From a node's parts to readings. Takes what they have counted; costs microseconds a replica, and only when asked."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

from raftmq.assembly import Assembly
from raftmq.broker.cluster_service import SILENCE_MAX_MS
from raftmq.broker.lag_watch import SERIES_MAX
from raftmq.ids import CONTROLLER_GROUP, GroupId
from raftmq.metadata.image import MetadataImage
from raftmq.observe import metrics, queues
from raftmq.observe.health import ready
from raftmq.observe.metrics import Metric, Readings
from raftmq.observe.observed import Observed
from raftmq.raft.types import Role
from raftmq.replica.depth import Overflows
from raftmq.replica.driver import Driver
from raftmq.replica.group import ReplicaGroup
from raftmq.replica.produce import Leadership
from raftmq.replica.traffic import Flow
from raftmq.rpc.server import InboundStats
from raftmq.rpc.transport import GrpcTransport
from raftmq.version import __version__

CONTROLLER_TOPIC = "(controller)"
"""Stands for the controller's group where a topic is named; no topic can have this name."""


def collect(observed: Observed) -> Readings:
    """Everything that is known at this moment. On the event loop only."""
    readings = Readings()
    _node(readings, observed)
    for (method, reason), calls in observed.counts.snapshot().items():
        readings.put(metrics.CALLS, calls, method, reason)
    if observed.driver is not None:
        _driver(readings, observed.driver, observed.busy_s)
    if observed.space is not None:
        readings.put(metrics.STORAGE_FLOOR, observed.space.floor)
        readings.put(metrics.STORAGE_LEVEL, observed.space.level)
    if observed.assembly is not None:
        _records(readings, observed.assembly, observed.config.cluster.limits.produce_memory_bytes)
        _replicas(readings, observed.assembly)
        queues.collect(readings, observed.assembly)
        _snapshots(readings, observed.assembly)
        _cluster(readings, observed.assembly)
        _groups(readings, observed.assembly)
    if observed.transport is not None:
        _links(readings, observed.transport)
    if observed.peers is not None:
        _inbound(readings, observed.peers.stats)
    return readings


def _node(readings: Readings, observed: Observed) -> None:
    readings.put(metrics.BUILD_INFO, 1, __version__)
    readings.put(metrics.NODE_READY, ready(observed.state()).is_well)
    readings.put(metrics.LOG_LINES_DROPPED, observed.lines_dropped())
    identity, formation = observed.identity, observed.formation
    if identity is not None:
        readings.put(
            metrics.NODE_INFO,
            1,
            observed.config.cluster.cluster,
            observed.config.node_id,
            "" if formation is None else formation.cluster_id,
            f"{identity.store_id:x}",
        )
        readings.put(metrics.NODE_BOOT_COUNT, identity.boot_count)
        readings.put(metrics.NODE_DISK_SUSPECT, identity.suspect)


def _driver(readings: Readings, driver: Driver, busy_s: float) -> None:
    stats = driver.stats
    readings.spread(metrics.STORAGE_QUEUE, stats.queue.spread())
    readings.spread(metrics.STORAGE_WRITE, stats.write.spread())
    readings.spread(metrics.STORAGE_SYNC, stats.sync.spread())
    readings.put(metrics.STORAGE_ROUNDS, stats.rounds)
    readings.put(metrics.STORAGE_STALLS, stats.stalls)
    readings.put(metrics.STORAGE_QUEUED_ROUNDS, driver.queued_rounds)
    readings.put(metrics.STORAGE_BUSY, busy_s)


# -- records ---------------------------------------------------------------------------------------------------------


def _records(readings: Readings, assembly: Assembly, memory_limit: int) -> None:
    traffic, image = assembly.host.traffic, assembly.controller.image
    produced = (metrics.PRODUCED_BATCHES, metrics.PRODUCED_RECORDS, metrics.PRODUCED_BYTES)
    fetched = (metrics.FETCHED_BATCHES, metrics.FETCHED_RECORDS, metrics.FETCHED_BYTES)
    for flows, names in ((traffic.produced, produced), (traffic.fetched, fetched)):
        for gone in [group for group in flows if group not in image.groups and group < image.next_group_id]:
            traffic.forget(gone)
        _flows(readings, flows, names, image)
    for exchange, counts in assembly.routed.snapshot().items():
        readings.put(metrics.EXCHANGE_PUBLISHED, counts.published, exchange)
        readings.put(metrics.EXCHANGE_UNROUTABLE, counts.unroutable, exchange)
        readings.put(metrics.EXCHANGE_APPENDED, counts.appended, exchange)
        readings.put(metrics.EXCHANGE_REFUSED, counts.refused, exchange)
    for stage, distribution in traffic.stages.items():
        readings.spread(metrics.PRODUCE_LATENCY, distribution.spread(), stage)
    _overflows(readings, assembly.host.intake.overflows, image)
    budget = assembly.host.intake.budget
    readings.put(metrics.MEMORY_USED, budget.used)
    readings.put(metrics.MEMORY_REFUSED, budget.refused)
    if budget.limit:
        readings.put(metrics.MEMORY_ALLOWED, budget.allowed)
    for quota, count in sorted(assembly.calls.quotas.refused.items()):
        readings.put(metrics.QUOTA_REFUSED, count, quota)
    for quota, count in sorted(assembly.calls.quotas.delayed.items()):
        readings.put(metrics.QUOTA_DELAYED, count, quota)
    readings.put(metrics.PRODUCE_MEMORY, assembly.host.held_bytes)
    readings.put(metrics.PRODUCE_MEMORY_LIMIT, memory_limit)


def _flows(
    readings: Readings, flows: Mapping[GroupId, Flow], names: tuple[Metric, Metric, Metric], image: MetadataImage
) -> None:
    """By topic: a topic of a thousand partitions is one series."""
    by_topic: defaultdict[str, Flow] = defaultdict(Flow)
    for group, flow in flows.items():
        if group in image.groups:
            sum_of = by_topic[image.groups[group][0]]
            sum_of.batches += flow.batches
            sum_of.records += flow.records
            sum_of.bytes += flow.bytes
    for topic, flow in sorted(by_topic.items()):
        for metric, value in zip(names, (flow.batches, flow.records, flow.bytes), strict=True):
            readings.put(metric, value, topic)


def _overflows(readings: Readings, overflows: Overflows, image: MetadataImage) -> None:
    for counted, metric in ((overflows.refused, metrics.REFUSED_RECORDS), (overflows.dropped, metrics.DROPPED_RECORDS)):
        for gone in {group for group, _ in counted if group not in image.groups and group < image.next_group_id}:
            overflows.forget(gone)
        sums: Counter[tuple[str, str]] = Counter()
        for (group, overflow), records in counted.items():
            if group in image.groups:
                sums[image.groups[group][0], overflow.name.lower()] += records
        for (topic, policy), records in sorted(sums.items()):
            readings.put(metric, records, topic, policy)


# -- replicas and partitions -----------------------------------------------------------------------------------------


def _replicas(readings: Readings, assembly: Assembly) -> None:
    groups = assembly.replicas.groups.values()
    roles = Counter(group.node.role for group in groups)
    for role in Role:
        readings.put(metrics.REPLICAS, roles[role], role.value)
    readings.put(metrics.REPLICAS_SUSPECT, sum(group.row.suspect for group in groups))
    readings.put(metrics.REPLICAS_HALTED, sum(group.halted is not None for group in groups))
    lag = sum(group.node.commit_index - group.machine.applied_index for group in groups)
    readings.put(metrics.REPLICAS_APPLY_LAG, lag)
    readings.put(metrics.TAIL_CACHE, sum(group.tail.bytes for group in groups))
    readings.put(metrics.TERMS_REFUSED, sum(group.node.terms_refused for group in groups))
    readings.put(metrics.CLOCK_JUMPS, sum(group.clock_jumps for group in groups))
    seen = assembly.elections
    readings.put(metrics.CAMPAIGNS, seen.campaigns)
    readings.put(metrics.ELECTIONS_WON, seen.won)
    readings.put(metrics.LEADERSHIPS_ENDED, seen.leaderships_ended)
    readings.put(metrics.REPLICA_HALTS, seen.halts)
    readings.put(metrics.REPLICA_RESTARTS, seen.started_over)
    readings.put(metrics.REPLICAS_DAMAGED, sum(group.row.damaged is not None for group in groups))
    _led(readings, assembly)


def _snapshots(readings: Readings, assembly: Assembly) -> None:
    sent, received = assembly.snapshots.stats, assembly.received.stats
    for stats, steps, size, seconds in (
        (sent, metrics.SNAPSHOTS_SENT, metrics.SNAPSHOTS_SENT_BYTES, metrics.SNAPSHOTS_SENDING),
        (received, metrics.SNAPSHOTS_INSTALLED, metrics.SNAPSHOTS_RECEIVED_BYTES, metrics.SNAPSHOTS_INSTALLING),
    ):
        for step, count in (("begun", stats.begun), ("done", stats.done), ("failed", stats.failed)):
            readings.put(steps, count, step)
        readings.put(size, stats.bytes)
        readings.spread(seconds, stats.seconds.spread())


def _led(readings: Readings, assembly: Assembly) -> None:
    image = assembly.controller.image
    under_replicated = refusing = waiting = 0
    for group in assembly.replicas.groups.values():
        leadership = assembly.replicas.leadership(group.id)
        place = _place(group.id, image)
        if leadership is None or not leadership.current or place is None:
            continue
        topic, partition, min_in_sync = place
        in_sync = len(leadership.announced or ())
        under_replicated += in_sync < len(group.voters())
        refusing += in_sync < min_in_sync
        waiting += len(leadership.waits)
        _partition(readings, group, leadership, topic, partition)
        if group.id in image.groups and image.topics[topic].depth:
            read = assembly.host.intake.backlog.lowest_unconsumed(group.id) or 0
            low = max(read, group.machine.log_start_offset)
            readings.put(metrics.PARTITION_DEPTH, max(0, group.end_offset - low), topic, partition)
    readings.put(metrics.PARTITIONS_UNDER_REPLICATED, under_replicated)
    readings.put(metrics.PARTITIONS_REFUSING, refusing)
    readings.put(metrics.PRODUCE_WAITING_BATCHES, waiting)


def _place(group: GroupId, image: MetadataImage) -> tuple[str, int, int] | None:
    """(topic, partition, min_in_sync_replicas) of a group; the controller's takes no records. None: it was deleted."""
    if group == CONTROLLER_GROUP:
        return CONTROLLER_TOPIC, 0, 0
    found = image.partition(group)
    return None if found is None else (found[0].name, found[1].partition, found[0].min_in_sync_replicas)


def _partition(readings: Readings, group: ReplicaGroup, leadership: Leadership, topic: str, partition: int) -> None:
    node, machine = group.node, group.machine
    readings.put(metrics.PARTITION_REPLICAS, len(group.voters()), topic, partition)
    readings.put(metrics.PARTITION_IN_SYNC, len(leadership.announced or ()), topic, partition)
    readings.put(metrics.PARTITION_COMMIT_LAG, node.last_index - node.commit_index, topic, partition)
    for member in sorted(node.membership.all - {group.me}):
        lag = max(0, node.last_index - node.match_index(member))
        readings.put(metrics.PARTITION_LAG, lag, topic, partition, member.node)
    if group.id != CONTROLLER_GROUP:
        readings.put(metrics.PARTITION_LOG_START, machine.log_start_offset, topic, partition)
        readings.put(metrics.PARTITION_HIGH_WATERMARK, machine.next_offset, topic, partition)


# -- the cluster -----------------------------------------------------------------------------------------------------


def _cluster(readings: Readings, assembly: Assembly) -> None:
    image, leader = assembly.controller.image, assembly.controller.controller()
    readings.put(metrics.CONTROLLER_KNOWN, leader is not None)
    readings.put(metrics.CONTROLLER_LEADER, assembly.host.leads(CONTROLLER_GROUP))
    readings.put(metrics.METADATA_INDEX, image.version)
    fenced = sum(node.fenced for node in image.nodes.values())
    readings.put(metrics.CLUSTER_NODES, len(image.nodes) - fenced, "live")
    readings.put(metrics.CLUSTER_NODES, fenced, "fenced")
    standing = assembly.controller.version_standing()
    readings.put(metrics.CLUSTER_VERSION, standing.version)
    readings.put(metrics.CLUSTER_VERSION_NEWEST, standing.newest)
    readings.put(metrics.CLUSTER_PARTITIONS, len(image.groups))
    leaderless = sum(assembly.host.leader_of(group) is None for group in image.groups)
    readings.put(metrics.CLUSTER_LEADERLESS, leaderless)
    for node in sorted(image.nodes):
        silence_ms = assembly.replicas.silence(node)
        if node != assembly.me.node and silence_ms < SILENCE_MAX_MS:
            readings.put(metrics.NODE_SILENCE, silence_ms / 1000, node)


def _groups(readings: Readings, assembly: Assembly) -> None:
    for group in assembly.coordinator.led_groups()[:SERIES_MAX]:
        readings.put(metrics.GROUP_MEMBERS, len(group.members), group.name)
    for name, topic, partition, lag in assembly.lag.known:
        readings.put(metrics.GROUP_LAG_RECORDS, lag.records, name, topic, partition)
        readings.put(metrics.GROUP_LAG, lag.age_ms / 1000, name, topic, partition)


def _links(readings: Readings, transport: GrpcTransport) -> None:
    for link in transport.stats:
        labels = (link.node, link.channel.name.lower())
        readings.put(metrics.LINK_UP, link.is_up, *labels)
        readings.put(metrics.LINK_FRAMES, link.frames, *labels)
        readings.put(metrics.LINK_MESSAGES, link.messages, *labels)
        readings.put(metrics.LINK_BYTES, link.bytes, *labels)
        readings.put(metrics.LINK_DROPPED, link.dropped_frames, *labels)
        readings.put(metrics.LINK_CONNECTS, link.connects, *labels)
        readings.put(metrics.LINK_OVERFLOWS, link.overflows, *labels)
        readings.put(metrics.LINK_QUEUED_PIECES, link.queued_pieces, *labels)
        readings.put(metrics.LINK_QUEUED_BYTES, link.queued_bytes, *labels)


def _inbound(readings: Readings, inbound: InboundStats) -> None:
    readings.put(metrics.INBOUND_STREAMS, inbound.streams)
    readings.put(metrics.INBOUND_REFUSED, inbound.refused_streams)
    readings.put(metrics.INBOUND_MESSAGES, inbound.messages)
    readings.put(metrics.INBOUND_BYTES, inbound.bytes)
    readings.put(metrics.INBOUND_FAULTS, inbound.faults)
    readings.put(metrics.INBOUND_STALE, inbound.stale_messages)
