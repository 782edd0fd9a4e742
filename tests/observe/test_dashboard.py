"""The Grafana dashboard of the package: it has the shape that Grafana loads, and asks for what there is."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from typing import Any

import pytest

from raftmq.observe.metrics import CATALOGUE, Kind

OF_THE_PROCESS = {"process_cpu_seconds_total": Kind.COUNTER, "process_resident_memory_bytes": Kind.GAUGE}
ALWAYS = {"instance", "job"}
"""Labels that Prometheus adds to every series."""

BOARD: dict[str, Any] = json.loads(files("raftmq.observe").joinpath("grafana/dashboard.json").read_text())
PANELS: list[dict[str, Any]] = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
QUERIES: list[str] = [target["expr"] for panel in PANELS for target in panel["targets"]]


def exposed() -> dict[str, tuple[Kind, set[str]]]:
    """Names of series as Prometheus stores them, with what kind they are and their labels."""
    series: dict[str, tuple[Kind, set[str]]] = {name: (kind, set()) for name, kind in OF_THE_PROCESS.items()}
    for metric in CATALOGUE:
        labels = set(metric.labels)
        if metric.kind is Kind.HISTOGRAM:
            series[f"{metric.name}_bucket"] = (Kind.COUNTER, labels | {"le"})
            series[f"{metric.name}_sum"] = series[f"{metric.name}_count"] = (Kind.COUNTER, labels)
        else:
            series[metric.name] = (metric.kind, labels)
    return series


SERIES = exposed()


def asked(query: str) -> list[str]:
    return re.findall(r"\b(?:raftmq|process)_\w+", query)


def test_the_board_has_what_grafana_needs_to_load_it() -> None:
    assert BOARD["title"] == BOARD["uid"] == "raftmq"
    assert isinstance(BOARD["schemaVersion"], int)
    assert "id" not in BOARD, "an id belongs to one Grafana; an import makes its own"
    assert [variable["name"] for variable in BOARD["templating"]["list"]] == ["datasource", "instance"]
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: str(panel["title"]))
def test_a_panel_is_whole(panel: dict[str, Any]) -> None:
    assert panel["type"] in {"timeseries", "stat"}
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    assert [target["refId"] for target in panel["targets"]] == list("ABCD")[: len(panel["targets"])]
    assert all(target["datasource"] == panel["datasource"] for target in panel["targets"])
    assert panel["fieldConfig"]["defaults"]["unit"]


def test_panels_lie_side_by_side() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, f"{panel['title']} lies on another panel"
        assert at["x"] + at["w"] <= 24
        taken |= cells


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_asks_for_series_that_there_are_by_labels_that_they_have(query: str) -> None:
    names = asked(query)
    assert names, "a query without a metric"
    assert [name for name in names if name not in SERIES] == []
    has = set.union(*(SERIES[name][1] for name in names)) | ALWAYS
    grouped = [label for group in re.findall(r"by \(([^)]*)\)", query) for label in re.split(r",\s*", group)]
    matched = re.findall(r"(\w+)(?:=~|!=|=)\"", query)
    assert [label for label in grouped + matched if label not in has] == []
    for opening, closing in ("()", "{}", "[]"):
        assert query.count(opening) == query.count(closing)


@pytest.mark.parametrize("query", QUERIES)
def test_counters_are_asked_for_their_rate_and_gauges_for_their_value(query: str) -> None:
    rated = set(re.findall(r"rate\((\w+)", query))
    for name in asked(query):
        assert (SERIES[name][0] is Kind.COUNTER) == (name in rated), name


def test_every_legend_names_labels_that_its_query_leaves() -> None:
    for panel in PANELS:
        for target in panel["targets"]:
            wanted = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
            groups = re.findall(r"by \(([^)]*)\)", target["expr"])
            left = set(re.split(r",\s*", groups[0])) if groups else SERIES[asked(target["expr"])[0]][1] | ALWAYS
            assert wanted <= left, f"{panel['title']}: {wanted - left}"
