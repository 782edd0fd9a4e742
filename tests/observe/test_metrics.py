"""The catalogue of metrics keeps Prometheus's conventions, and readings become text that Prometheus reads."""

from __future__ import annotations

import re

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.parser import text_string_to_metric_families

from raftmq.measure import Distribution
from raftmq.observe import metrics
from raftmq.observe.metrics import CATALOGUE, Kind, Metric, Readings

UNITS_NOT_BASE = ("milliseconds", "ms", "us", "minutes", "kilobytes", "kib", "mb", "percent")
RESERVED_LABELS = {"le", "quantile", "job", "instance", "__name__"}


def lint(metric: Metric) -> list[str]:
    """What promtool's lint would find, and a little more."""
    found = []
    if not re.fullmatch(r"raftmq(_[a-z0-9]+)+", metric.name):
        found.append("a name is raftmq_ and small words")
    if (metric.kind is Kind.COUNTER) != metric.name.endswith("_total"):
        found.append("_total stands behind counters only")
    if metric.name.endswith(("_count", "_sum", "_bucket")) and metric.name != "raftmq_node_boot_count":
        found.append("the suffix belongs to histograms")
    if metric.kind is Kind.HISTOGRAM and not metric.name.endswith(("_seconds", "_bytes")):
        found.append("a histogram has a unit")
    if any(word in UNITS_NOT_BASE for word in metric.name.split("_")):
        found.append("the unit is no base unit")
    if any(kind.value in metric.name.split("_") for kind in Kind):
        found.append("the name has the kind in it")
    if not metric.help.endswith(".") or (not metric.help[0].isupper() and not metric.help[0].isdigit()):
        found.append("the help is a sentence")
    for label in metric.labels:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", label) or label in RESERVED_LABELS:
            found.append(f"the label {label}")
        if f"_{label}_" in f"{metric.name}_" and not metric.name.startswith(f"raftmq_{label}_"):
            found.append(f"the label {label} is in the name")
    return found


@pytest.mark.parametrize("metric", CATALOGUE, ids=lambda metric: metric.name)
def test_names_keep_the_conventions(metric: Metric) -> None:
    assert lint(metric) == []


@pytest.mark.parametrize(
    "metric",
    [
        Metric("raftmq_Calls_total", Kind.COUNTER, "Calls."),
        Metric("raftmq_calls", Kind.COUNTER, "Calls."),
        Metric("raftmq_calls_total", Kind.GAUGE, "Calls."),
        Metric("raftmq_sync", Kind.HISTOGRAM, "Syncs."),
        Metric("raftmq_sync_ms", Kind.GAUGE, "Syncs."),
        Metric("raftmq_up", Kind.GAUGE, ""),
        Metric("raftmq_up", Kind.GAUGE, "Up.", ("le",)),
        Metric("raftmq_up_gauge", Kind.GAUGE, "Up."),
    ],
    ids=lambda metric: metric.name,
)
def test_the_lint_finds_what_it_is_for(metric: Metric) -> None:
    try:
        assert lint(metric) != []
    except IndexError:
        assert metric.help == ""


def test_names_are_given_once() -> None:
    names = [metric.name for metric in CATALOGUE]
    assert len(set(names)) == len(names) > 50


class Fixed(CollectorRegistry):
    def __init__(self, readings: Readings) -> None:
        super().__init__()
        self._readings = readings

    def collect(self) -> list[Family]:
        return list(self._readings.families())


def parsed(readings: Readings) -> dict[str, Family]:
    text = generate_latest(Fixed(readings)).decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def test_readings_are_what_prometheus_reads() -> None:
    distribution = Distribution((0.1, 1))
    for value in (0.05, 0.5, 0.5, 7):
        distribution.add(value)
    readings = Readings()
    readings.put(metrics.CALLS, 3, "/raftmq.v1.Broker/Produce", "OK")
    readings.put(metrics.CALLS, 1, 'with "quotes"\nand more', "NO_LEADER")
    readings.put(metrics.NODE_READY, True)
    readings.spread(metrics.STORAGE_SYNC, distribution.spread())
    families = parsed(readings)
    assert [(s.name, dict(s.labels), s.value) for s in families["raftmq_calls"].samples] == [
        ("raftmq_calls_total", {"method": "/raftmq.v1.Broker/Produce", "reason": "OK"}, 3),
        ("raftmq_calls_total", {"method": 'with "quotes"\nand more', "reason": "NO_LEADER"}, 1),
    ]
    assert [sample.value for sample in families["raftmq_node_ready"].samples] == [1]
    assert families["raftmq_storage_sync_seconds"].type == "histogram"
    assert [(s.name[27:], s.labels.get("le"), s.value) for s in families["raftmq_storage_sync_seconds"].samples] == [
        ("_bucket", "0.1", 1),
        ("_bucket", "1", 3),
        ("_bucket", "+Inf", 4),
        ("_count", None, 4),
        ("_sum", None, 8.05),
    ]


def test_a_metric_nobody_has_read_is_left_out_and_the_rest_is_in_the_catalogues_order() -> None:
    readings = Readings()
    for metric in reversed(CATALOGUE):
        if metric.kind is Kind.HISTOGRAM:
            readings.spread(metric, Distribution().spread(), *metric.labels)
        elif metric is not metrics.NODE_READY:
            readings.put(metric, 1, *metric.labels)
    names = [family.name + ("_total" if family.type == "counter" else "") for family in readings.families()]
    assert names == [metric.name for metric in CATALOGUE if metric is not metrics.NODE_READY]


def test_a_value_needs_every_label() -> None:
    with pytest.raises(AssertionError, match="raftmq_calls_total"):
        Readings().put(metrics.CALLS, 1, "method")
