"""Log lines through a real pipe: in order while somebody reads, dropped and counted while nobody does."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from raftmq.ids import NodeId
from raftmq.observe.logs import LINE_BYTES_MAX, QUEUE_BYTES_MAX, LogSink, logging_to

PIPE_BYTES = 4096
"""The least that the kernel gives."""


class Pipe:
    """A small pipe, and the sinks that write to it."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        fcntl.fcntl(self.writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._sinks: list[LogSink] = []

    def sink(self, bytes_max: int = QUEUE_BYTES_MAX) -> LogSink:
        self._sinks.append(LogSink(self.writer, bytes_max))
        return self._sinks[-1]

    def close_reader(self) -> None:
        if self.reader >= 0:
            os.close(self.reader)
            self.reader = -1

    def close(self) -> None:
        """With nobody to read, a sink that is stuck comes to its end: only then may its descriptor become another's."""
        self.close_reader()
        for sink in self._sinks:
            assert sink.flush(60)
            sink.close()
        os.close(self.writer)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    pipe.close()


def read_lines(reader: int, until: str) -> list[str]:
    """What comes out of the pipe, up to a line that begins with `until`."""
    data = b""
    while not any(line.startswith(until.encode()) for line in data.split(b"\n")[:-1]):
        data += os.read(reader, 65536)
    return data.decode().splitlines()


def test_lines_come_out_as_they_went_in(pipe: Pipe) -> None:
    sink = pipe.sink()
    for number in range(100):
        sink.put(f"line {number}")
    assert read_lines(pipe.reader, "line 99") == [f"line {number}" for number in range(100)]
    sink.close()
    assert sink.dropped == 0


def test_nobody_waits_for_a_sink_that_stopped_and_the_loss_is_told_where_it_is(pipe: Pipe) -> None:
    sink = pipe.sink(bytes_max=10_000)
    for number in range(1_000):  # 100 bytes each: far more than pipe and queue hold
        sink.put(f"line {number:04} ".ljust(99, "."))
    dropped = sink.dropped
    assert dropped > 1_000 - (10_000 + PIPE_BYTES) // 100 - 2
    read: list[str] = []
    back = threading.Thread(target=lambda: read.extend(read_lines(pipe.reader, "and on")))
    back.start()
    assert sink.flush(60)
    sink.put("and on it goes")
    back.join()
    expected = 0
    for line in read[:-1]:
        if line.startswith("line"):
            assert int(line.split()[1]) == expected
            expected += 1
        else:
            note, _, missing = line.rpartition("=")
            assert note == "level='warning' event='log lines were dropped: nobody took them' lines"
            expected += int(missing)
    assert expected == 1_000
    assert sink.dropped == dropped
    sink.close()


def test_a_loss_is_told_although_no_line_follows(pipe: Pipe) -> None:
    sink = pipe.sink(bytes_max=300)
    for _ in range(PIPE_BYTES):
        sink.put("x" * 99)
    assert sink.dropped > 0
    text = ""
    while sum(map(int, re.findall(r" lines=(\d+)\n", text))) != sink.dropped:
        text += os.read(pipe.reader, 65536).decode()
    assert text.endswith("\n")
    sink.close()


def test_a_reader_that_went_for_good_costs_lines_and_nothing_else(pipe: Pipe) -> None:
    pipe.close_reader()
    sink = pipe.sink()
    for number in range(10):
        sink.put(f"line {number}")
    assert sink.flush(30)
    sink.close()
    assert sink.dropped == 10


def test_the_end_does_not_wait_for_ever(pipe: Pipe) -> None:
    sink = pipe.sink()
    sink.put("x" * 2 * PIPE_BYTES)
    assert not sink.flush(0.01)
    sink.close(0.01)
    sink.close(0.01)
    sink.put("too late")
    assert sink.dropped == 1


def test_a_line_without_end_is_cut(pipe: Pipe) -> None:
    sink = pipe.sink()
    sink.put("x" * 10 * LINE_BYTES_MAX)
    sink.put("next")
    assert [len(line) for line in read_lines(pipe.reader, "next")] == [LINE_BYTES_MAX, 4]
    sink.close()


def test_threads_do_not_mix_their_lines(pipe: Pipe) -> None:
    sink = pipe.sink()

    def talk(name: str) -> None:
        for _ in range(200):
            sink.put(name * 300)

    threads = [threading.Thread(target=talk, args=name) for name in "abc"]
    for thread in threads:
        thread.start()
    lines: list[str] = []
    while len(lines) < 600:
        sink.put("mark")
        lines += [line for line in read_lines(pipe.reader, "mark") if line != "mark"]
    assert sorted(lines) == ["a" * 300] * 200 + ["b" * 300] * 200 + ["c" * 300] * 200
    for thread in threads:
        thread.join()
    sink.close()


PROGRAM = """
import logging, sys, threading, structlog
from raftmq.ids import NodeId
from raftmq.observe.logs import logging_to
with logging_to(2, NodeId(3)):
    log = structlog.get_logger("x")
    log.info("said", term=4, group=5, other=6)
    log.warning("of another", node=7)
    logging.getLogger("asyncio").error("said by %s", "a library")
    logging.getLogger("grpc").info("chatter")
    try:
        raise ValueError("oh")
    except ValueError:
        log.exception("failed")
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    print("half", end=" ", file=sys.stderr)
    print("a line", file=sys.stderr)
print("afterwards", file=sys.stderr)
"""


def test_all_that_python_prints_goes_through_the_sink_with_the_node_in_it() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    lines = done.stderr.splitlines()
    said = [line.partition(" ")[2] for line in lines if line.startswith("timestamp=")]
    assert said[:3] == [
        "level='info' node=3 event='said' group=5 term=4 other=6",
        "level='warning' node=3 event='of another' peer=7",
        "level='error' node=3 event='said by a library' logger='asyncio'",
    ]
    assert said[3].startswith("level='error' node=3 event='failed' exception='Traceback")
    assert "ValueError: oh" in said[3]
    assert len(said) == 4
    assert "ZeroDivisionError: division by zero" in lines
    assert lines[-2:] == ["half a line", "afterwards"]
    assert done.stdout == ""


def test_a_library_that_logs_finds_its_way_back(pipe: Pipe) -> None:
    """The block leaves logging as it was."""
    before = (sys.stderr, list(logging.getLogger().handlers))
    with logging_to(pipe.writer, NodeId(1)):
        assert sys.stderr is not before[0]
    assert (sys.stderr, list(logging.getLogger().handlers)) == before
