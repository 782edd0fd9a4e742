"""What is recorded is what is read back."""

from __future__ import annotations

from pathlib import Path

import pytest

from raftmq.chaos.history import NEVER, Outcome
from raftmq.chaos.reading import load, of
from raftmq.chaos.recorder import Recorder
from raftmq.chaos.workloads.base import decode, encode
from tests.chaos.events import P, final, good, history, send


def test_a_recorded_run_is_read_back(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    with Recorder(file) as recorder:
        recorder.write("client", client="a", idempotent=True)
        first = recorder.invoke("send", client="a", partition=P, values=[recorder.new_value(), recorder.new_value()])
        second = recorder.invoke("send", client="a", partition=P, values=[recorder.new_value()])
        recorder.settle("send", second, "info", error="DEADLINE_EXCEEDED")
        recorder.settle("send", first, "ok", offset=5, epoch=2)
    found = load(file)
    assert list(found.sends.value) == [1, 2, 3]
    assert list(found.sends.offset) == [5, 6, -1]
    assert list(found.sends.outcome) == [Outcome.OK, Outcome.OK, Outcome.INFO]
    assert found.sends.returned[0] >= found.sends.invoked[0]
    assert recorder.counts == {"send ok": 1, "send info": 1}
    assert recorder.errors == {"DEADLINE_EXCEEDED": 1}


def test_what_is_written_after_the_end_is_dropped(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    with Recorder(file) as recorder:
        op = recorder.invoke("send", client="a", partition=P, values=[1])
    recorder.settle("send", op, "ok", offset=0, epoch=1)
    assert list(load(file).sends.returned) == [NEVER]


def test_a_last_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    file.write_text('{"t":1,"f":"client","client":"a"}\n{"t":2,"f":"cli')
    assert load(file).end == 1


def test_a_line_that_is_no_event_is_named(tmp_path: Path) -> None:
    file = tmp_path / "history.jsonl"
    file.write_text('{"t":1,"f":"client","client":"a"}\n{"t":2}\n')
    with pytest.raises(ValueError, match="line 2"):
        load(file)


def test_kinds_of_a_later_version_are_passed_over() -> None:
    assert of([{"t": 1, "f": "something new"}]).events == 1


def test_a_final_log_with_a_hole_is_still_found_by_offset() -> None:
    parts = history(final(10, 11), [{"t": 902, "f": "final", "partition": P, "offset": 5, "epoch": 1, "values": [12]}])
    log = of(parts).final[0]
    assert [log.at(offset) for offset in (0, 1, 2, 4, 5, 6)] == [10, 11, None, None, 12, None]


def test_events_are_counted_by_record() -> None:
    assert of(history(send(1, 10, 11, 12, t=1, until=2, offset=0))).events == 4


def test_the_good_history_is_good_to_the_reader() -> None:
    found = of(history(*good()))
    assert found.sent_row(14) >= 0
    assert found.sent_row(99) == found.sent_row(-1) == -1


@pytest.mark.parametrize("size", [0, 3, 100])
def test_values_survive_their_bytes(size: int) -> None:
    assert decode(encode(12_340, size)) == 12_340


@pytest.mark.parametrize("data", [None, b"", b"unknown", b"12x", b"...."])
def test_foreign_bytes_are_no_value(data: bytes | None) -> None:
    assert decode(data) == -1
