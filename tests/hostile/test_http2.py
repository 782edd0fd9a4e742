"""Abuse of HTTP/2 below gRPC: the node's memory stays bounded, and others are served meanwhile and afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

import pytest

from tests.hostile import http2
from tests.hostile.http2 import END_HEADERS, Connection, frame, literal, request_headers, settings
from tests.hostile.node import Node

pytestmark = pytest.mark.integration

FETCH = "/raftmq.v1.Broker/Fetch"
MEMORY_MIB = 64
"""What a test here may leave in the node: buffers of gRPC and fragments."""


@contextmanager
def bounded(node: Node) -> Iterator[None]:
    before = node.memory_mib()
    with node.unchanged():
        yield
    assert node.memory_mib() - before < MEMORY_MIB


def flood(node: Node, piece: Callable[[int], bytes], times: int) -> bool:
    """Send so many pieces, or as many as the node takes; the canary sings every hundred. Whether it took all."""
    with Connection(node.client_port) as connection:
        for number in range(times):
            if not connection.send(piece(number)):
                return False
            if number % 100 == 0:
                node.canary()
    return True


def test_streams_opened_and_reset_at_once(node: Node) -> None:
    """ "Rapid reset": 50 calls a packet, none of which is waited for."""
    headers = request_headers(FETCH)
    streams = count(1, 2)

    def piece(_number: int) -> bytes:
        return b"".join(
            frame(http2.HEADERS, END_HEADERS, stream, headers)
            + frame(http2.RST_STREAM, 0, stream, http2.CANCEL.to_bytes(4, "big"))
            for stream, _ in zip(streams, range(50), strict=False)
        )

    with bounded(node):
        flood(node, piece, 300)


def test_pings_without_end(node: Node) -> None:
    """Two too many are forgiven; then the connection is told to go."""
    with bounded(node):
        assert not flood(node, lambda number: frame(http2.PING, 0, 0, number.to_bytes(8, "big")) * 50, 2_000)


def test_settings_without_end(node: Node) -> None:
    with bounded(node):
        flood(node, lambda number: settings((4, 65_535 + number)) * 50, 300)


def test_headers_that_never_end(node: Node) -> None:
    """Ten mebibytes of them, and never the flag that one was the last: gRPC forgets what is above its limit."""

    def piece(number: int) -> bytes:
        if number == 0:
            return frame(http2.HEADERS, 0, 1, request_headers(FETCH))
        return frame(http2.CONTINUATION, 0, 1, literal(b"x-%d" % number, b"y" * 100) * 50)

    with bounded(node):
        flood(node, piece, 2_000)


def test_connections_that_say_half_a_word(node: Node) -> None:
    """A preface cut short, half a frame, half a message: held open, all of them, while others are served."""
    half_a_message = frame(http2.HEADERS, END_HEADERS, 1, request_headers(FETCH)) + frame(
        http2.DATA, 0, 1, b"\x00" + (2**20).to_bytes(4, "big") + b"only this"
    )
    firsts = [
        b"",
        http2.PREFACE[:10],
        http2.PREFACE + settings() + frame(http2.HEADERS, 0, 1, request_headers(FETCH))[:20],
        http2.PREFACE + settings() + half_a_message,
    ]
    held: list[Connection] = []
    try:
        with bounded(node):
            for first in firsts * 50:
                held.append(Connection(node.client_port, first))  # noqa: PERF401  what was opened is closed
    finally:
        for connection in held:
            connection.__exit__(None, None, None)


def test_idle_connections_cost_little(node: Node) -> None:
    """They have said hello and nothing since. About 15 KiB each was measured, with 10,000 of them too."""
    held: list[Connection] = []
    before = node.memory_mib()
    try:
        with node.unchanged():
            for _ in range(400):
                held.append(Connection(node.client_port))  # noqa: PERF401  what was opened is closed
            assert all(connection.hears() for connection in held), "the node has accepted each of them"
            assert (node.memory_mib() - before) * 1024 < 64 * len(held)
    finally:
        for connection in held:
            connection.__exit__(None, None, None)


def test_a_message_that_says_it_is_larger_than_any(node: Node) -> None:
    """Its five bytes of prefix promise four gibibytes: refused before the first of them."""
    promise = frame(http2.DATA, 0, 1, b"\x00" + (2**32 - 1).to_bytes(4, "big"))
    with bounded(node), Connection(node.client_port) as connection:
        connection.send(frame(http2.HEADERS, END_HEADERS, 1, request_headers(FETCH)) + promise)
        connection.send(frame(http2.GOAWAY, 0, 0, bytes(8)))


def test_a_window_that_stays_closed(node: Node) -> None:
    """Settings that let the node send nothing, and a hundred calls that all have an answer."""
    closed = http2.PREFACE + settings((4, 0))
    asked = frame(http2.DATA, http2.END_STREAM, 1, b"\x00\x00\x00\x00\x00")
    info = request_headers("/raftmq.v1.Broker/GetMetadata")
    with bounded(node), Connection(node.client_port, closed) as connection:
        for stream in range(1, 200, 2):
            connection.send(
                frame(http2.HEADERS, END_HEADERS, stream, info) + asked[:5] + stream.to_bytes(4, "big") + asked[9:]
            )
        node.canary()


@pytest.mark.parametrize("what", ["GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\x02\x00\x01", "SSH-2.0-x\r\n", "\0" * 100])
def test_other_protocols_are_hung_up_on(node: Node, what: str) -> None:
    with bounded(node), Connection(node.client_port, what.encode("latin-1")) as connection:
        connection.read_to_end()
