"""What the pictures show, and that the page stands on its own."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from raftmq.chaos.experiment import parse
from raftmq.chaos.reading import of
from raftmq.chaos.report import page, series, summary
from raftmq.chaos.report.series import Span
from raftmq.chaos.verdict import judge
from tests.chaos.events import P, good, history, observe, send

FAULT = {"fault": 0, "name": "kill <node> 1", "injected_s": 0.1, "healed_s": 0.2, "fired": True, "violation": "",
         "evidence": {"killed": {"1": 77}}}  # fmt: skip


def test_buckets_hold_what_ended_in_them() -> None:
    found = series.buckets(of(history(*good())), 50)
    assert [bucket.acknowledged for bucket in found[:3]] == [3, 0, 1]
    assert (found[1].unknown, found[1].failed) == (1, 2)
    assert found[0].percentile(0.5) == 0.015


def test_an_empty_bucket_has_no_percentile() -> None:
    assert series.Bucket().percentile(0.5) is None


def test_leadership_ends_when_the_node_says_so() -> None:
    said = [*observe(1, 10, term=3), *observe(1, 500, term=3), {"t": 900, "f": "observe", "node": 1, "leads": {}}]
    assert series.leadership(of(said)) == {P: [Span(10, 500, 1, 3)]}


def test_a_later_term_ends_a_leader_that_does_not_know_it_yet() -> None:
    said = [*observe(1, 10, term=3), *observe(2, 500, term=4), *observe(1, 600, term=3), *observe(2, 700, term=4)]
    assert series.leadership(of(said)) == {P: [Span(10, 10, 1, 3), Span(500, 700, 2, 4)]}


def test_a_silent_leader_is_not_known_to_lead() -> None:
    said = [*observe(1, 10, term=3), *observe(1, 5_000_000, term=3)]
    assert series.leadership(of(said)) == {P: [Span(10, 10, 1, 3), Span(5_000_000, 5_000_000, 1, 3)]}


def test_a_partition_is_unavailable_while_somebody_waits() -> None:
    second = 1_000_000
    events = history(
        send(1, 10, t=0, until=10, offset=0),
        send(2, 11, t=second, until=4 * second, offset=1),
        send(3, 12, t=9 * second, until=9 * second + 5, offset=2),
    )
    assert series.unavailable(of(events)) == {P: [Span(second, 4 * second)]}


class Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "line", "circle", "path", "br"):
            self.open.append(tag)
        self.outside += [
            f"{tag} {n}" for n, v in attrs if n in ("src", "href") or ("http:" in (v or "") and n != "xmlns")
        ]

    def handle_endtag(self, tag: str) -> None:
        if tag in ("line", "circle", "path"):
            return
        assert self.open.pop() == tag


def test_the_page_stands_on_its_own_and_escapes_what_it_shows(tmp_path: Path) -> None:
    plan = parse("name: x\nshows: a < b\nfaults: [{fault: kill, at: 1}]", source="x")
    events = of(history(*good()))
    verdict = judge(plan, events, [FAULT])
    page.write(tmp_path / "report.html", plan, verdict, events, seed=5)
    text = (tmp_path / "report.html").read_text()
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    assert reader.outside == []
    assert "a &lt; b" in text
    assert "kill &lt;node&gt; 1" in text
    assert text.count("<svg") == 3
    assert "seed 5" in text


def test_a_run_without_events_has_a_page_too(tmp_path: Path) -> None:
    plan = parse("name: x\nshows: y", source="x")
    page.write(tmp_path / "report.html", plan, judge(plan, of([]), []), of([]), seed=5)
    assert "INVALID" in (tmp_path / "report.html").read_text()


def test_the_terminal_s_view_names_the_report(tmp_path: Path) -> None:
    plan = parse("name: x\nshows: y\nfaults: [{fault: kill, at: 1}]", source="x")
    assert summary.render(judge(plan, of(history(*good())), [FAULT]), tmp_path)
