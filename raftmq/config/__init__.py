"""cluster.yml, read once and checked at the edge: whatever gets past ``load`` is consistent.

config = load("cluster.yml")
node = config.node(1)
node.client_bind, node.dial(NodeId(2)), config.timeouts.election_timeout_ms
"""

from raftmq.config.models import (
    BOOTSTRAP_VARIABLE,
    CONFIG_VARIABLE,
    CONTROLLER_VOTERS_MAX,
    Address,
    ClusterConfig,
    ConfigError,
    Defaults,
    Limits,
    NodeConfig,
    NodeEntry,
    Timeouts,
    majority,
)
from raftmq.config.reading import dump, load, parse

__all__ = [
    "BOOTSTRAP_VARIABLE",
    "CONFIG_VARIABLE",
    "CONTROLLER_VOTERS_MAX",
    "Address",
    "ClusterConfig",
    "ConfigError",
    "Defaults",
    "Limits",
    "NodeConfig",
    "NodeEntry",
    "Timeouts",
    "dump",
    "load",
    "majority",
    "parse",
]
