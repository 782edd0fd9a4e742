"""Log lines that never hold anybody up: a bounded queue, and one thread that writes.

Whoever reads a node's stderr may stop (a terminal on Ctrl-S, a pipe whose reader is stuck, a full disk behind it).
A write to it then blocks, and the event loop must not be the one that waits. So lines are queued; when the queue is
full, new ones are dropped and counted, and once the sink takes lines again it is told how many.

All that Python code of this process prints goes this way: structlog, the standard library's logging, and ``sys.stderr``
itself. Only native code, which writes to the descriptor, does not: what it says last before a crash must not be lost.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from structlog.typing import EventDict

from raftmq.ids import NodeId

QUEUE_BYTES_MAX = 4 * 1024 * 1024
"""Some ten thousand lines: what a sink that stopped may cost."""
LINE_BYTES_MAX = 64 * 1024
"""What is longer is cut."""
END_PATIENCE_S = 1.0
"""How long the end of the process waits for a sink that does not take the last lines."""


class LogSink:
    """Writes lines to a descriptor, on a thread of its own. ``put`` never blocks and never fails, on any thread."""

    def __init__(self, descriptor: int, bytes_max: int = QUEUE_BYTES_MAX) -> None:
        self._descriptor = descriptor
        self._bytes_max = bytes_max
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._is_writing = False
        self._is_closed = False
        self._dropped = 0
        self._untold = 0
        self._thread = threading.Thread(target=self._write_lines, name="raftmq-log", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Lines lost so far."""
        return self._dropped

    def put(self, line: str) -> None:
        """Queue one line, without its end; drop it if the queue is full."""
        data = line.encode("utf-8", "replace")[:LINE_BYTES_MAX] + b"\n"
        with self._changed:
            if self._bytes + len(data) > self._bytes_max or self._is_closed:
                self._dropped += 1
                self._untold += 1
                return
            if self._untold:
                self._append(self._note())
            self._append(data)
            self._changed.notify_all()

    def flush(self, timeout_s: float) -> bool:
        """Wait until all that was put is written, at most so long; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._lines and not self._is_writing, timeout_s)

    def close(self, timeout_s: float = END_PATIENCE_S) -> None:
        """Write what is queued, within `timeout_s`; take nothing more. Idempotent."""
        self.flush(timeout_s)
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _write_lines(self) -> None:
        while (data := self._next()) is not None:
            try:
                while data:
                    data = data[os.write(self._descriptor, data) :]
            except OSError:
                # The reader is gone for good, or the disk is full. The node goes on; the metric tells of the loss.
                with self._changed:
                    self._dropped += 1
            with self._changed:
                self._is_writing = False
                self._changed.notify_all()

    def _next(self) -> bytes | None:
        """The next line, or a note of those that are missing after the last one. None: closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._lines or self._untold or self._is_closed)
            if not self._lines and not self._untold:
                return None
            self._is_writing = True
            if not self._lines:
                return self._note()
            data = self._lines.popleft()
            self._bytes -= len(data)
            return data

    def _append(self, data: bytes) -> None:
        self._lines.append(data)
        self._bytes += len(data)

    def _note(self) -> bytes:
        """Stands where the lines are missing."""
        untold, self._untold = self._untold, 0
        return f"level='warning' event='log lines were dropped: nobody took them' lines={untold}\n".encode()


class _Stderr(io.TextIOBase):
    """``sys.stderr`` on top of a sink: tracebacks of threads, warnings, ``print``."""

    def __init__(self, sink: LogSink, descriptor: int) -> None:
        self._sink = sink
        self._descriptor = descriptor
        self._rest = ""
        self._lock = threading.Lock()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        """For ``faulthandler``, which writes where Python no longer can."""
        return self._descriptor

    def write(self, text: str) -> int:
        with self._lock:
            *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._sink.put(line)
        return len(text)

    def flush(self) -> None:
        with self._lock:
            rest, self._rest = self._rest, ""
        if rest:
            self._sink.put(rest)


class _Logger:
    """What structlog calls with a finished line."""

    def __init__(self, sink: LogSink) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = self.msg = sink.put


class _Handler(logging.Handler):
    """The standard library's logging (asyncio, gRPC) as lines of structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger(record.name)
        log.log(record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info)


@contextmanager
def logging_to(descriptor: int, node: NodeId) -> Iterator[LogSink]:
    """Send all log lines of this process to `descriptor`, and name the node in each, for the time of a block."""
    sink = LogSink(descriptor)
    before, handler = (sys.stderr, structlog.get_config()), _Handler(logging.WARNING)
    sys.stderr = _Stderr(sink, descriptor)
    logging.getLogger().addHandler(handler)
    structlog.configure(
        processors=_processors(node),
        logger_factory=lambda *_: _Logger(sink),
        cache_logger_on_first_use=True,
    )
    try:
        yield sink
    finally:
        logging.getLogger().removeHandler(handler)
        sys.stderr.flush()
        sys.stderr = before[0]
        structlog.configure(**before[1])
        sink.close()


def _processors(node: NodeId) -> list[structlog.typing.Processor]:
    def with_node(_logger: object, _method: str, event: EventDict) -> EventDict:
        if "node" in event:
            event["peer"] = event.pop("node")  # a log line's node is the one that writes it
        event["node"] = node
        return event

    return [
        with_node,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        structlog.processors.KeyValueRenderer(
            key_order=["timestamp", "level", "node", "event", "group", "term"], drop_missing=True
        ),
    ]
