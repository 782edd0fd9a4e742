"""gRPC settings for a cluster's own links; the defaults are made for clients on the internet.

What is not obvious, measured with grpcio 1.85 (tests hold the ping timeout, the strikes and the shared port to it):

- ``keepalive_timeout_ms`` does not bound how long a ping may stay unanswered, ``http2.ping_timeout_ms`` does; its
  default of one minute would keep a black-holed connection for as long.
- A client sends at most one ping a second, whatever ``keepalive_time_ms`` says; a server obeys it.
- ``min_reconnect_backoff_ms`` is also the time a connection attempt gets. 100 ms would never connect over a slow link.
- ``so_reuseport`` is on by default: two servers then share one port, and each loses half of the connections.
- Servers punish frequent pings with GOAWAY unless ``http2.max_ping_strikes`` is 0.
"""

from __future__ import annotations

from raftmq.config.models import MESSAGE_BYTES_MAX, MESSAGE_OVERHEAD_BYTES
from raftmq.ports import Channel

MAX_MESSAGE_BYTES = MESSAGE_BYTES_MAX + MESSAGE_OVERHEAD_BYTES
"""Largest message that a peer accepts, whatever its own limit for clients is: another node hands on whatever it took.
Frames aim at 256 KiB; a single large batch may take more."""

KEEPALIVE_MS = 300
PING_TIMEOUT_MS = 1_000
"""An unanswered ping ends a connection after this, so a black hole is noticed within 2 s."""
BULK_PING_TIMEOUT_MS = 5_000
"""A ping waits in line behind the data: on a slow link, a bulk stream must not be ended for being busy."""
CONNECT_TIMEOUT_MS = 1_000

ChannelOptions = tuple[tuple[str, int], ...]

_COMMON: ChannelOptions = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)


def channel_options(channel: Channel | None = None) -> ChannelOptions:
    """Options of a connection to a peer; `channel` None: for unary calls."""
    ping_timeout_ms = BULK_PING_TIMEOUT_MS if channel is Channel.BULK else PING_TIMEOUT_MS
    return (
        *_COMMON,
        ("grpc.keepalive_timeout_ms", ping_timeout_ms),
        ("grpc.http2.ping_timeout_ms", ping_timeout_ms),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", CONNECT_TIMEOUT_MS),
        ("grpc.max_reconnect_backoff_ms", 1_000),
        ("grpc.enable_retries", 0),
        ("grpc.enable_http_proxy", 0),
        ("grpc.service_config_disable_resolution", 1),
    )


def server_options() -> ChannelOptions:
    """Options of the peer listener. Its own pings only free the streams of peers that vanished."""
    return (
        *_COMMON,
        ("grpc.keepalive_timeout_ms", BULK_PING_TIMEOUT_MS),
        ("grpc.http2.ping_timeout_ms", BULK_PING_TIMEOUT_MS),
        ("grpc.so_reuseport", 0),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.server_handshake_timeout_ms", 10_000),
    )
