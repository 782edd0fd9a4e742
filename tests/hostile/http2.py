"""HTTP/2 by hand, for what no gRPC library sends: frames as bytes (RFC 9113), headers uncompressed (RFC 7541).

The server's frames are read and thrown away.
"""

from __future__ import annotations

import socket
import struct
from types import TracebackType
from typing import Self

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1
CANCEL = 8


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def literal(name: bytes, value: bytes) -> bytes:
    """A header that is not indexed; both parts shorter than 127 bytes."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def request_headers(path: str) -> bytes:
    """Those of a gRPC call: POST, http, the rest spelled out."""
    return b"\x83\x86" + b"".join(
        literal(name, value)
        for name, value in (
            (b":path", path.encode()),
            (b":authority", b"localhost"),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
        )
    )


def settings(*pairs: tuple[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in pairs))


class Connection:
    """A TCP connection with the preface sent. `send` gives up quietly once the server has hung up."""

    def __init__(self, port: int, first: bytes = PREFACE + settings()) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.is_open = True
        self._heard = False
        self.send(first)

    def send(self, data: bytes) -> bool:
        """Whether the server still takes it. What it sends is thrown away, so that nobody waits for anybody."""
        try:
            self._socket.sendall(data)
            self._drain()
        except OSError:
            self.is_open = False
        return self.is_open

    def hears(self) -> bool:
        """Wait for something from the server, such as its settings. False where it hangs up instead."""
        return self._heard or bool(self._socket.recv(65_536))

    def read_to_end(self) -> bytes:
        """Everything until the server hangs up."""
        received = bytearray()
        try:
            while data := self._socket.recv(65_536):
                received += data
        except ConnectionError:
            pass
        return bytes(received)

    def _drain(self) -> None:
        self._socket.setblocking(False)
        try:
            while self._socket.recv(65_536):
                self._heard = True
            self.is_open = False
        except BlockingIOError:
            return
        finally:
            self._socket.settimeout(60)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._socket.close()
