"""What is said of a result: ratios, table, JSON, chart, and the README's table."""

from __future__ import annotations

import json
import os
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from raftmq.cli.bench import chart, machine, readme, suite, usage
from raftmq.cli.bench.chart import Line, Panel
from raftmq.cli.bench.figures import Spread
from raftmq.cli.bench.result import Check, Figure, Floor, Latency, Result, number
from raftmq.cli.bench.usage import Reading, Usage
from raftmq.cli.exits import CommandError

SVG = "{http://www.w3.org/2000/svg}"


def result(*, passed: bool = True) -> Result:
    return Result(
        benchmark="produce",
        setting="10 s | all",
        figures=(Figure("acknowledged", 1500, "records/s", Floor("bare calls", 3000)),),
        latencies=(Latency("ack", Spread(0.004, 0.005, 0.006, 0.1), Floor("echo", 0.002)),),
        usage=(
            Usage("node 1", 0.5, 1_000_000, 3_000_000, 2_000_000, 0.0, 400),
            Usage("node 2", 0.7, 1_000_000, 2_000_000, 2_000_000, 0.0, 500),
            Usage("producer 1", 0.9, 9_000_000, 9_000_000, 9_000_000, 0.0, 0),
        ),
        checks=(Check("counted", passed, "1 of 1"),),
        panels=(Panel("throughput", "records/s", (Line("acknowledged", [(0.0, 1.0)]),)),),
        payload_bytes=100,
    )


def rendered(found: Result) -> str:
    console = Console(width=200, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(found.render())
    console.file.close()
    return console.export_text()


def test_ratios_are_to_the_floor() -> None:
    figure, latency = result().figures[0], result().latencies[0]
    assert (figure.ratio, latency.ratio) == (0.5, 2.0)
    assert figure.against == "0.50 of bare calls (3,000 records/s)"
    assert latency.against == "2.00 of echo (2 ms)"


def test_without_a_floor_there_is_no_ratio() -> None:
    assert (Figure("x", 1, "s").ratio, Figure("x", 1, "s").against) == (None, "")
    assert Figure("x", 1, "s", Floor("nothing", 0)).ratio is None
    assert Latency("x", Spread(1, 1, 1, 1)).against == ""


def test_the_table_has_figures_ratios_and_verdicts() -> None:
    text = rendered(result())
    assert "1,500 records/s" in text
    assert "0.50 of bare calls" in text
    assert "passed counted: 1 of 1" in text
    assert "FAILED counted" in rendered(result(passed=False))


def test_the_json_has_ratios_and_can_be_read_back() -> None:
    document = json.loads(json.dumps(result().as_json()))
    assert document["passed"] is True
    assert document["figures"][0]["ratio"] == 0.5
    assert document["latencies"][0]["p99"] == 0.006
    assert document["latencies"][0]["ratio"] == 2.0
    assert document["usage"][0]["memory_max"] == 3_000_000
    assert json.loads(json.dumps(result(passed=False).as_json()))["passed"] is False


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (3.0, "3"), (1.234, "1.23"), (45.67, "45.7"), (12345.6, "12,346")]
)
def test_numbers_have_the_digits_that_mean_something(value: float, text: str) -> None:
    assert number(value) == text


# -- chart -------------------------------------------------------------------------------------------------------


def test_the_chart_is_well_formed_and_has_a_line_for_each() -> None:
    panels = (
        Panel("throughput", "records/s", (Line("p50 & <p99>", [(0.0, 0.0), (10.0, 400.0)]), Line("b", [(0.0, 1.0)]))),
        Panel("nothing", "ms", (Line("empty", ()),)),
    )
    root = ElementTree.fromstring(chart.render("a < b", "with & " + "much " * 60, panels))
    assert root.findtext(f"{SVG}title") == "a < b"
    lines = root.findall(f".//{SVG}polyline")
    assert len(lines) == 2
    first, last = str(lines[0].get("points")).split()
    assert [float(x) for x in first.split(",")] == [chart.LEFT, chart.PANEL_HEIGHT - chart.BOTTOM]
    # 400 lies under a scale that ends at 500, at the right edge.
    assert float(last.split(",")[0]) == chart.WIDTH - chart.RIGHT
    height = chart.PANEL_HEIGHT - chart.BOTTOM - chart.TOP
    assert float(last.split(",")[1]) == pytest.approx(chart.TOP + height * 0.2)
    assert "nothing" not in chart.render("", "", panels)


def test_a_chart_without_a_point_says_so() -> None:
    assert "nothing was measured" in chart.render("x", "", ())


@pytest.mark.parametrize(
    ("value", "top"), [(0, 1), (0.3, 0.5), (1, 1), (1.1, 2), (230, 250), (251, 500), (9000, 10000)]
)
def test_scales_end_at_round_numbers(value: float, top: float) -> None:
    assert chart.ceiling(value) == pytest.approx(top)


# -- README ------------------------------------------------------------------------------------------------------


def test_the_table_replaces_what_is_between_the_markers() -> None:
    text = f"before\n\n{readme.BEGIN}\n\nold\n\n{readme.END}\n\nafter\n"
    once = readme.insert(text, "new")
    assert once == f"before\n\n{readme.BEGIN}\n\nnew\n\n{readme.END}\n\nafter\n"
    assert readme.insert(once, "new") == once


@pytest.mark.parametrize(
    "text", ["", readme.BEGIN, readme.END, f"{readme.END}{readme.BEGIN}", f"{readme.BEGIN * 2}{readme.END}"]
)
def test_a_document_without_its_markers_is_refused(text: str) -> None:
    with pytest.raises(CommandError, match="needs one line"):
        readme.insert(text, "new")


def test_the_projects_own_readme_has_its_markers() -> None:
    readme.insert((Path(__file__).parents[2] / "README.md").read_text(), "new")


def test_a_row_has_a_cell_for_each_column_and_looks_at_nodes_only() -> None:
    assert len(readme.row(result())) == len(readme.COLUMNS)
    assert readme.row(result())[2:] == (
        "acknowledged 1,500 records/s",
        "0.50 of bare calls (3,000 records/s)<br>2.00 of echo (2 ms)",
        "ack 4 / 6 / 100",
        "70 % of a core, 3 MB, 5.0 bytes written per payload byte",
    )


def test_the_document_is_a_table_whose_cells_hold_no_bars() -> None:
    lines = readme.document([result()], "a machine", "a note", "a day", "1.0").splitlines()
    assert lines[0] == "raftmq 1.0, a day, in one run, on a machine; a note."
    assert {line.count("|") for line in lines[2:]} == {len(readme.COLUMNS) + 1}


def test_the_machine_is_described() -> None:
    assert "Python" in machine.describe()
    assert f"{len(os.sched_getaffinity(0))} core" in machine.describe()


def test_the_set_has_every_family() -> None:
    names = [name for name, _ in suite.selection(20, 30, 1000, 1000)]
    assert len(names) == len(set(names))
    for family in ("produce", "end-to-end", "consume", "latency", "calls", "queue", "failover", "idle", "restart"):
        assert any(name.startswith(family) for name in names)


# -- usage -------------------------------------------------------------------------------------------------------


def test_usage_of_this_process() -> None:
    reading = usage.read(os.getpid())
    assert reading.cpu_seconds > 0
    assert reading.memory_bytes > 1_000_000


def test_usage_from_readings() -> None:
    readings = [Reading(10, 1.0, 100, 5), Reading(12, 2.0, 300, 5), Reading(14, 3.0, 200, 25)]
    found = usage.summarise("node 1", readings)
    assert (found.cpu_share, found.memory_first, found.memory_max, found.memory_last) == (0.5, 100, 300, 200)
    assert found.written_bytes == 20
    assert found.memory_slope == pytest.approx(25 * 60)
    assert usage.summarise("x", readings[:1]).cpu_share == 0


def test_growth_is_that_after_the_warm_up() -> None:
    sizes = [100, 200, 300, 310, 320, 330]
    readings = [Reading(10.0 + at, at, size, 0) for at, size in enumerate(sizes)]
    found = usage.summarise("node 1", readings, warm_up=2.0)
    assert found.memory_slope == pytest.approx(10 * 60)
    assert (found.memory_first, found.memory_last, found.cpu_share) == (100, 330, 1.0)
    assert usage.summarise("node 1", readings, warm_up=60.0).memory_slope == 0


async def test_watching_looks_at_the_start_and_at_the_end_and_forgives_a_process_that_is_gone() -> None:
    async with usage.watching({"me": os.getpid(), "nobody": 2**22 + 1}) as watch:
        pass
    (mine,) = watch.usage()
    assert mine.name == "me"
    assert mine.memory_max >= mine.memory_first > 0
