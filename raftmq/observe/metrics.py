"""Every metric of a node: its name, kind, labels and meaning. The one place where names are made.

Prometheus's conventions hold: base units (seconds, bytes), the unit last, ``_total`` behind counters only. Everything
counts from the start of the process. A partition is told of by its leader alone, so that a cluster has each once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family

from raftmq.measure import Spread


class Kind(Enum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()


def _counter(name: str, help: str, *labels: str) -> Metric:
    return Metric(f"raftmq_{name}", Kind.COUNTER, help, labels)


def _gauge(name: str, help: str, *labels: str) -> Metric:
    return Metric(f"raftmq_{name}", Kind.GAUGE, help, labels)


def _histogram(name: str, help: str, *labels: str) -> Metric:
    return Metric(f"raftmq_{name}", Kind.HISTOGRAM, help, labels)


# -- the node
BUILD_INFO = _gauge("build_info", "Always 1; the version of raftmq.", "version")
NODE_INFO = _gauge("node_info", "Always 1; who this node is.", "cluster", "node_id", "cluster_id", "store_id")
NODE_READY = _gauge("node_ready", "1 where /readyz says so.")
NODE_BOOT_COUNT = _gauge("node_boot_count", "How often this node has started on its disk.")
NODE_DISK_SUSPECT = _gauge("node_disk_suspect", "1 if synced writes were missing from the disk at this start.")
LOG_LINES_DROPPED = _counter("log_lines_dropped_total", "Log lines lost because their reader did not keep up.")

# -- calls and records
CALLS = _counter("calls_total", "Calls that ended here, by reason (OK for an answer).", "method", "reason")
PRODUCED_BATCHES = _counter("produced_batches_total", "Batches acknowledged by this node as leader.", "topic")
PRODUCED_RECORDS = _counter("produced_records_total", "Records acknowledged by this node as leader.", "topic")
PRODUCED_BYTES = _counter("produced_bytes_total", "Payload bytes acknowledged by this node as leader.", "topic")
GROUP_MEMBERS = _gauge("group_members", "Members of a consumer group, told by its coordinator.", "group")
GROUP_LAG_RECORDS = _gauge(
    "group_lag_records", "Records that a consumer group has yet to read, told by its coordinator.",
    "group", "topic", "partition",
)  # fmt: skip
GROUP_LAG = _gauge(
    "group_lag_seconds", "Since the first of them was appended; 0 where there is none.", "group", "topic", "partition"
)
EXCHANGE_PUBLISHED = _counter("exchange_published_total", "Calls of Publish routed by this node.", "exchange")
EXCHANGE_UNROUTABLE = _counter("exchange_unroutable_total", "Calls of Publish that reached no topic.", "exchange")
EXCHANGE_APPENDED = _counter("exchange_appended_total", "Topics that took what was published, a call each.", "exchange")
EXCHANGE_REFUSED = _counter("exchange_refused_total", "Topics that did not, or not all of it.", "exchange")
FETCHED_BATCHES = _counter("fetched_batches_total", "Batches given to consumers.", "topic")
FETCHED_RECORDS = _counter("fetched_records_total", "Records given to consumers, in whole batches.", "topic")
FETCHED_BYTES = _counter("fetched_bytes_total", "Payload bytes given to consumers.", "topic")
PRODUCE_LATENCY = _histogram(
    "produce_latency_seconds",
    "Where a batch's time went until QUORUM or ALL acknowledged it: queue (until it had its place in the log), sync "
    "(until the leader's disk had it), replication (until enough others had it). To the millisecond.",
    "stage",
)
PRODUCE_WAITING_BATCHES = _gauge("produce_waiting_batches", "Batches that wait for their acknowledgement.")
QUEUE_RECORDS = _gauge(
    "queue_records",
    "Records of queue groups in partitions led here: unseen, ready, waiting, leased, delayed, parked or done. Each is "
    "in exactly one of these states: together they are as many as raftmq_queue_offsets.",
    "topic",
    "group",
    "state",
)
QUEUE_OFFSETS = _gauge(
    "queue_offsets", "Offsets from where a queue group began to the end, in partitions led here.", "topic", "group"
)
QUEUE_VIOLATIONS = _gauge(
    "queue_violations",
    "Replicas on this node, led here or not, in which the states of a queue group do not add up to its records: 0, or "
    "a bug, or damaged memory; the log says more.",
    "topic",
    "group",
)
QUEUE_SETTLED = _counter(
    "queue_outcomes_total",
    "What became of messages in partitions led here: acked, released, retried, lease_expired, parked, redriven, "
    "dropped, expired, cancelled, skipped, routed; and how often a breaker_opened.",
    "topic",
    "group",
    "outcome",
)
QUEUE_BREAKERS = _gauge(
    "queue_breakers",
    "Partitions led here whose circuit breaker keeps a queue group back: open (it gets nothing) or trying (the pause "
    "is over, it gets one message at a time until one succeeds).",
    "topic",
    "group",
    "state",
)
QUEUE_HELD = _gauge("queue_held_bytes", "Records that queues need and the log has lost, in partitions led here.")
PRODUCE_MEMORY = _gauge("produce_memory_bytes", "Bytes of batches that wait for their acknowledgement.")
PRODUCE_MEMORY_LIMIT = _gauge("produce_memory_limit_bytes", "Above this, produce is answered OVERLOADED.")
REFUSED_RECORDS = _counter(
    "depth_refused_records_total", "Records told QUEUE_FULL, once for each attempt.", "topic", "policy"
)
DROPPED_RECORDS = _counter(
    "depth_dropped_records_total",
    "Records told OVERFLOW_DROPPED, or removed by the policy drop_oldest to make room.",
    "topic",
    "policy",
)
MEMORY_USED = _gauge("memory_calls_bytes", "Bytes of requests, waiting batches and answers under way.")
MEMORY_ALLOWED = _gauge("memory_calls_allowed_bytes", "What they may take of limits.memory_bytes; absent without it.")
MEMORY_REFUSED = _counter("memory_refused_total", "Calls told MEMORY_PRESSURE.")
QUOTA_REFUSED = _counter("quota_refused_total", "Requests told QUOTA_EXCEEDED.", "quota")
QUOTA_DELAYED = _counter("quota_delayed_total", "Messages of streams that were held back for a quota.", "quota")

# -- the disk
STORAGE_QUEUE = _histogram("storage_queue_seconds", "How long a round of writes waited for the storage thread.")
STORAGE_WRITE = _histogram("storage_write_seconds", "How long RocksDB took to apply the writes of one or more rounds.")
STORAGE_SYNC = _histogram("storage_sync_seconds", "How long one sync of the write-ahead log took.")
STORAGE_ROUNDS = _counter("storage_rounds_total", "Rounds written; rounds per sync is what group commit saves.")
STORAGE_STALLS = _counter("storage_stalls_total", "Writes that RocksDB put off because it was behind.")
STORAGE_QUEUED_ROUNDS = _gauge("storage_queued_rounds", "Rounds that wait for the storage thread now.")
STORAGE_BUSY = _gauge("storage_busy_seconds", "Since when the write or sync under way is under way; 0 if none is.")
STORAGE_SIZE = _gauge("storage_size_bytes", "Size of all files in the data directory.")
STORAGE_FREE = _gauge("storage_free_bytes", "Free space of the file system of the data directory.")
STORAGE_CAPACITY = _gauge("storage_capacity_bytes", "Size of the file system of the data directory.")
STORAGE_FLOOR = _gauge("storage_free_floor_bytes", "With less free space than this no records are taken.")
STORAGE_LEVEL = _gauge("storage_level", "Room on the disk: 0 enough, 1 low (no produce), 2 full (nor replication).")
TAIL_CACHE = _gauge("tail_cache_bytes", "Newest log entries that are held in memory.")

# -- replicas of this node
REPLICAS = _gauge("replicas", "Replicas on this node, by their role in their group.", "role")
REPLICAS_SUSPECT = _gauge("replicas_suspect", "Replicas that do not vote until they have caught up.")
REPLICAS_HALTED = _gauge("replicas_halted", "Replicas that take no part any more because of damage; see the log.")
REPLICAS_APPLY_LAG = _gauge("replicas_apply_lag_entries", "Committed entries not yet applied, over all replicas.")
CAMPAIGNS = _counter("campaigns_total", "Terms in which a replica of this node asked for votes.")
ELECTIONS_WON = _counter("elections_won_total", "Elections that a replica of this node won.")
LEADERSHIPS_ENDED = _counter("leaderships_ended_total", "Leaderships that this node gave away or lost.")
REPLICA_HALTS = _counter("replica_halts_total", "Replicas halted because of damage.")
TERMS_REFUSED = _counter(
    "terms_refused_total", "Messages dropped for a term that no honest cluster can have come to: somebody forges them."
)
REPLICAS_DAMAGED = _gauge("replicas_damaged", "Replicas that are replaced because of damage, from other nodes.")
REPLICA_RESTARTS = _counter("replicas_started_over_total", "Replicas found damaged, fetched from other nodes again.")
CLOCK_JUMPS = _counter("clock_jumps_total", "Batches for which the wall clock was too far off to be believed.")

SNAPSHOTS_SENT = _counter("snapshots_sent_total", "Snapshots for other nodes: begun, done, failed.", "step")
SNAPSHOTS_SENT_BYTES = _counter("snapshots_sent_bytes_total", "Entries and state sent in snapshots.")
SNAPSHOTS_SENDING = _histogram("snapshots_sending_seconds", "How long it took to send a snapshot that was done.")
SNAPSHOTS_INSTALLED = _counter(
    "snapshots_installed_total",
    "Snapshots for replicas of this node: begun, done, failed (the next one goes on).",
    "step",
)
SNAPSHOTS_RECEIVED_BYTES = _counter("snapshots_received_bytes_total", "Entries and state received in snapshots.")
SNAPSHOTS_INSTALLING = _histogram("snapshots_installing_seconds", "How long it took to fetch one, and to write it.")

# -- partitions that this node leads
PARTITIONS_UNDER_REPLICATED = _gauge(
    "partitions_under_replicated", "Groups led here with a replica that is not in sync."
)
PARTITIONS_REFUSING = _gauge(
    "partitions_below_min_in_sync", "Groups led here with too few replicas in sync: produce is refused."
)
PARTITION_REPLICAS = _gauge("partition_replicas", "Voters of the partition.", "topic", "partition")
PARTITION_IN_SYNC = _gauge("partition_in_sync_replicas", "Voters in sync, the leader among them.", "topic", "partition")
PARTITION_COMMIT_LAG = _gauge(
    "partition_commit_lag_entries", "Entries that the leader has and no quorum confirmed yet.", "topic", "partition"
)
PARTITION_LAG = _gauge(
    "partition_lag_entries", "Entries that a member is behind its leader.", "topic", "partition", "follower"
)
PARTITION_LOG_START = _gauge("partition_log_start_offset", "First offset that can be read.", "topic", "partition")
PARTITION_DEPTH = _gauge(
    "partition_depth_records", "Depth of a partition that has a limit, see DepthLimit.", "topic", "partition"
)
PARTITION_HIGH_WATERMARK = _gauge(
    "partition_high_watermark_offset", "First offset that consumers do not see yet.", "topic", "partition"
)

# -- the cluster, as this node sees it
CONTROLLER_KNOWN = _gauge("controller_known", "1 where this node knows who leads the controller.")
CONTROLLER_LEADER = _gauge("controller_leader", "1 where this node leads the controller.")
METADATA_INDEX = _gauge("metadata_log_index", "Log index of the newest change of the metadata that is applied here.")
CLUSTER_NODES = _gauge(
    "cluster_nodes", "Nodes that have registered; fenced: the controller does not hear them.", "state"
)
CLUSTER_VERSION = _gauge("cluster_version", "What nodes may write for each other to read.")
CLUSTER_VERSION_NEWEST = _gauge(
    "cluster_version_newest",
    "The newest that any node understands: while it is above the cluster's, others hold it back.",
)
CLUSTER_PARTITIONS = _gauge("cluster_partitions", "Partitions of all topics.")
CLUSTER_LEADERLESS = _gauge("cluster_partitions_leaderless", "Partitions of which this node knows no leader.")
NODE_SILENCE = _gauge("node_silence_seconds", "Time since the node was heard last.", "peer")

# -- links to and from other nodes
LINK_UP = _gauge("link_up", "1 where the stream to the node is accepted.", "peer", "channel")
LINK_FRAMES = _counter("link_frames_total", "Frames queued for the node.", "peer", "channel")
LINK_MESSAGES = _counter("link_messages_total", "Messages sent, each of one or more frames.", "peer", "channel")
LINK_BYTES = _counter("link_bytes_total", "Bytes sent.", "peer", "channel")
LINK_DROPPED = _counter("link_dropped_frames_total", "Frames dropped: stream down or queue full.", "peer", "channel")
LINK_CONNECTS = _counter("link_connects_total", "How often the stream was accepted.", "peer", "channel")
LINK_OVERFLOWS = _counter(
    "link_overflows_total", "How often the queue was full, and the stream cut.", "peer", "channel"
)
LINK_QUEUED_PIECES = _gauge("link_queued_pieces", "Parts of frames that wait to be sent.", "peer", "channel")
LINK_QUEUED_BYTES = _gauge("link_queued_bytes", "Bytes that wait to be sent.", "peer", "channel")
INBOUND_STREAMS = _counter("inbound_streams_total", "Streams of other nodes accepted.")
INBOUND_REFUSED = _counter("inbound_refused_streams_total", "Streams refused: another cluster, node, boot or protocol.")
INBOUND_MESSAGES = _counter("inbound_messages_total", "Messages from other nodes.")
INBOUND_BYTES = _counter("inbound_bytes_total", "Bytes from other nodes.")
INBOUND_FAULTS = _counter("inbound_faults_total", "Parts of messages dropped as malformed.")
INBOUND_STALE = _counter("inbound_stale_messages_total", "Messages dropped because a newer stream took over.")

CATALOGUE: tuple[Metric, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
"""All of them, in the order above. Beside these there are Prometheus's own ``process_*`` and ``python_gc_*``."""

_FAMILIES = {
    Kind.COUNTER: CounterMetricFamily,
    Kind.GAUGE: GaugeMetricFamily,
    Kind.HISTOGRAM: HistogramMetricFamily,
}


class Readings:
    """Values of metrics at one moment. Filled in on the event loop, rendered wherever."""

    def __init__(self) -> None:
        self._values: dict[Metric, list[tuple[list[str], float]]] = {}
        self._spreads: dict[Metric, list[tuple[list[str], Spread]]] = {}

    def put(self, metric: Metric, value: float, *labels: object) -> None:
        """A counter's or gauge's value; `labels` in the order of ``metric.labels``."""
        assert metric.kind is not Kind.HISTOGRAM
        assert len(labels) == len(metric.labels), metric.name
        self._values.setdefault(metric, []).append(([str(label) for label in labels], value))

    def spread(self, metric: Metric, spread: Spread, *labels: object) -> None:
        """A histogram's values."""
        assert metric.kind is Kind.HISTOGRAM
        assert len(labels) == len(metric.labels), metric.name
        self._spreads.setdefault(metric, []).append(([str(label) for label in labels], spread))

    def families(self) -> Iterator[Family]:
        """For Prometheus's exposition, in the catalogue's order. A metric without a value is left out."""
        for metric in CATALOGUE:
            if metric in self._values or metric in self._spreads:
                family = _FAMILIES[metric.kind](metric.name, metric.help, labels=metric.labels)
                for labels, value in self._values.get(metric, ()):
                    family.add_metric(labels, value)
                for labels, spread in self._spreads.get(metric, ()):
                    family.add_metric(labels, _buckets(spread), spread.total)
                yield family


def _buckets(spread: Spread) -> list[tuple[str, float]]:
    """Prometheus counts each value in every bucket that is large enough for it."""
    buckets = []
    count = 0
    for bound, more in zip([*map(str, spread.bounds), "+Inf"], spread.counts, strict=True):
        count += more
        buckets.append((bound, float(count)))
    return buckets
