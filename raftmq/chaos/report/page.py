"""The report of a run: one page that needs nothing else, neither network nor scripts."""

from __future__ import annotations

import json
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from raftmq.chaos.experiment import Experiment
from raftmq.chaos.history import History
from raftmq.chaos.report import charts, series
from raftmq.chaos.verdict import Judged, Verdict

STEPS = 160
"""About so many bars across the page."""
SHORTEST_STEP_US = 200_000
EVIDENCE_SHOWN = 5


def write(path: Path, experiment: Experiment, verdict: Verdict, events: History, *, seed: int) -> None:
    """Draw the report of a run into one file."""
    body = [_head(experiment, verdict, seed)]
    if events.events:
        body += [
            _numbers(verdict), _pictures(events), _properties(verdict), _faults(verdict), _resources(verdict.figures)
        ]  # fmt: skip
    body.append(_again(experiment, seed, path))
    style = resources.files(__package__).joinpath("style.css").read_text(encoding="utf-8")
    path.write_text(
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(experiment.name)}: {verdict.level.value}</title><style>{style}</style></head>"
        f"<body><main>{''.join(body)}</main></body></html>\n",
        encoding="utf-8",
    )


def _head(experiment: Experiment, verdict: Verdict, seed: int) -> str:
    cluster = experiment.cluster
    facts = (
        f"{cluster.nodes} nodes, {cluster.partitions} partitions with {min(cluster.replicas, cluster.nodes)} replicas; "
        f"{experiment.duration:g} s of load with faults, {experiment.settle:g} s without; seed {seed}"
    )
    reasons = "".join(f"<p>{escape(reason)}</p>" for reason in verdict.reasons)
    return (
        f"<header><div><h1>{escape(experiment.name)}</h1><p>{escape(experiment.shows)}</p>"
        f'<p class="soft">{escape(facts)}</p></div>'
        f'<div class="badge {verdict.level.value}">{verdict.level.value}</div></header>'
        + (f'<div class="reasons">{reasons}</div>' if reasons else "")
    )


def _numbers(verdict: Verdict) -> str:
    figures = verdict.figures
    shown: list[tuple[str, Any]] = [
        ("records sent", figures["sent"]),
        ("acknowledged", figures["acknowledged"]),
        ("surely not stored", figures["failed"]),
        ("unknown", figures["unknown"]),
        ("polled", figures["polled"]),
        ("faults fired", figures["faults_fired"]),
    ]
    cells = [f"<div><b>{value:,}</b><span>{name}</span></div>" for name, value in shown]
    if "leader_after_heal_s" in figures:
        for name in ("leader", "acknowledged"):
            value = figures[f"{name}_after_heal_s"]
            shown_as = "never" if value is None else f"{value:g} s"
            cells.append(f"<div><b>{shown_as}</b><span>{name} after heal, slowest</span></div>")
    return f'<div class="numbers">{"".join(cells)}</div><p class="soft">{escape(_sentences(figures))}</p>'


def _sentences(figures: dict[str, Any]) -> str:
    """What is no property, and worth knowing; a run of an earlier version may not have it."""
    said = []
    if figures.get("p99_before_ms") is not None:
        back = figures["p99_back_after_s"]
        when = "not within the run" if back is None else f"{back:g} s after it"
        said.append(
            f"99 of 100 acknowledgements took at most {figures['p99_before_ms']:g} ms before the first fault; at most "
            f"twice that again after the last one: {when}."
        )
    if figures.get("stalled_s"):
        said.append(
            f"Nodes or the experiment itself waited for a processor for {figures['stalled_s']:g} s of "
            f"{figures['seconds']:g} s."
        )
    return " ".join(said)


def _resources(figures: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td class='word'>node {escape(node)}</td>"
        + "".join(f"<td class='num'>{was:,} → {now:,}</td>" for was, now in zip(before, after, strict=True))
        + "<td></td></tr>"
        for node, (before, after) in figures.get("resources", {}).items()
    )
    heads = "".join(f'<th style="text-align:right">{name}</th>' for name in ("threads", "open files", "MiB"))
    head = f"<tr><th>Before the faults, and at the end</th>{heads}<th></th></tr>"
    return f'<h2>What the nodes hold of the machine</h2><table class="narrow">{head}{rows}</table>' if rows else ""


def _pictures(events: History) -> str:
    step = max(SHORTEST_STEP_US, -(-events.end // STEPS))
    axis = charts.Axis(events.end)
    slices = series.buckets(events, step)
    leaders, gaps, windows = series.leadership(events), series.unavailable(events), events.windows
    nodes = sorted({one.node for one in events.observations})
    node_key = "".join(f'<i style="background:var(--n{node % charts.NODE_CLASSES})"></i>node {node}' for node in nodes)
    longest = max((gap.end - gap.begin for spans in gaps.values() for gap in spans), default=0)
    said = f"longest {longest / 1e6:.1f} s" if longest else "there was none"
    return (
        "<h2>Throughput</h2>"
        + _key(("--ok", "acknowledged"), ("--warn", "unknown"), ("--bad", "surely not stored"), ("--fault", "a fault"))
        + _card(charts.throughput(axis, slices, step, windows))
        + "<h2>Latency of what was acknowledged</h2>"
        + _key(("--n1", "median"), ("--n2", "99th percentile"), ("--fault", "a fault"))
        + _card(charts.latency(axis, slices, step, windows))
        + "<h2>Leaders, and when nothing was acknowledged</h2>"
        + f'<p class="key">{node_key}<i style="background:var(--bad)"></i>no acknowledgement for 1 s or more '
        f"although one was waited for: {said}</p>" + _card(charts.lanes(axis, leaders, gaps, windows))
    )


def _key(*entries: tuple[str, str]) -> str:
    return '<p class="key">' + "".join(f'<i style="background:var({c})"></i>{text}' for c, text in entries) + "</p>"


def _card(content: str) -> str:
    return f'<div class="card">{content}</div>'


def _properties(verdict: Verdict) -> str:
    rows = "".join(_property(one) for one in verdict.judged)
    return (
        "<h2>Properties</h2><table><tr><th>Property</th><th></th>"
        f'<th style="text-align:right">Examined</th><th>What it says</th></tr>{rows}</table>'
    )


def _property(one: Judged) -> str:
    css, word = ("empty", "nothing to examine")
    if one.violations:
        css = word = "violated"
    elif one.examined:
        css = word = "holds"
    evidence = ""
    if one.evidence:
        shown = one.evidence[:EVIDENCE_SHOWN]
        more = f"<li>and {one.violations - len(shown):,} more</li>" if one.violations > len(shown) else ""
        evidence = "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in shown) + more + "</ul>"
    return (
        f'<tr><td class="word">{one.name}</td><td class="word {css}">{word}</td><td class="num">{one.examined:,}</td>'
        f"<td>{escape(one.statement)}{evidence}</td></tr>"
    )


def _faults(verdict: Verdict) -> str:
    if not verdict.faults:
        return ""
    rows = "".join(
        f"<tr><td class='word'>{escape(fault['name'])}</td><td class='num'>{fault['injected_s']:.1f} s to "
        f"{fault['healed_s']:.1f} s</td><td class='word {'holds' if fault['fired'] else 'empty'}'>"
        f"{'fired' if fault['fired'] else 'did not fire'}</td><td>{escape(fault.get('means', ''))}</td>"
        f"<td>{_evidence(fault)}</td></tr>"
        for fault in verdict.faults
    )
    head = "<tr><th>Fault</th><th></th><th></th><th>By means of</th><th>Evidence</th></tr>"
    return f"<h2>Faults, and what proves them</h2><table>{head}{rows}</table>"


def _evidence(fault: dict[str, Any]) -> str:
    said = "".join(f"<p class='word violated'>{escape(fault[k])}</p>" for k in ("violation", "error") if fault.get(k))
    if not fault["evidence"]:
        return said
    text = json.dumps(fault["evidence"], indent=1, ensure_ascii=False)
    first = ", ".join(fault["evidence"])
    return f"{said}<details><summary>{escape(first)}</summary><pre>{escape(text)}</pre></details>"


def _again(experiment: Experiment, seed: int, path: Path) -> str:
    return (
        "<h2>Again</h2><p>The same schedule: <code>"
        f"raftmq chaos run {escape(experiment.name)} --seed {seed}</code>. The same history, judged by the checks "
        f"of another day: <code>raftmq chaos check {escape(str(path.parent))}</code>.</p>"
    )
