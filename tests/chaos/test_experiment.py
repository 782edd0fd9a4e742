"""Experiments are read strictly, name the path of what is wrong, and their schedules repeat."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from raftmq.chaos import experiment
from raftmq.chaos.experiment import Experiment, ExperimentError, parse, schedule
from raftmq.chaos.faults import links
from raftmq.chaos.plans import Cut

SHIPPED = sorted((Path(__file__).parents[2] / "chaos").glob("*.yml"))

MINIMAL = "name: x\nshows: y\n"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_experiment_can_be_used(path: Path) -> None:
    found = experiment.load(path)
    assert found.name == path.stem
    assert found.faults
    assert schedule(found.faults, found.duration, seed=1)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("faults: [{fault: kil, at: 1}]", "faults[0]: Input tag 'kil'"),
        ("faults: [{fault: kill, at: 1, targt: leader}]", "faults[0].kill.targt: Extra inputs are not permitted"),
        ("faults: [{fault: kill}]", "faults[0].kill: say either 'at' or 'repeat'"),
        (
            "faults: [{fault: kill, at: 99, lasts: 1}]",
            "faults[0]: begins at 99.0 s, after the end of the load at 30 s",
        ),
        ("faults: [{fault: kill, at: 1, target: 4}]", "faults[0].target: there is no node 4"),
        ("checks: [no-lost-writes]", "checks[0]: there is no check 'no-lost-writes'"),
        ("workloads: []", "workloads: Tuple should have at least 1 item"),
        ("cluster: {nodes: 0}", "cluster.nodes: Input should be greater than or equal to 1"),
        ("duration: soon", "duration: Input should be a valid number"),
        ("nam: x", "nam: Extra inputs are not permitted"),
        (
            "faults: [{fault: kill, repeat: {begin: 5, end: 4, lasts: [1, 2], pause: [1, 2]}}]",
            "faults[0].kill.repeat: begin, 5.0, must be before end, 4.0",
        ),
    ],
)
def test_a_mistake_is_told_with_its_path(text: str, problem: str) -> None:
    with pytest.raises(ExperimentError) as refused:
        parse(MINIMAL + text, source="x.yml")
    assert any(line.startswith(problem) for line in refused.value.problems), refused.value.problems
    assert "x.yml cannot be used" in str(refused.value)


@pytest.mark.parametrize("text", ["[", "just words", ""])
def test_what_is_no_experiment_is_refused(text: str) -> None:
    with pytest.raises(ExperimentError):
        parse(text, source="x.yml")


def test_a_name_that_is_not_known_is_told_with_those_that_are() -> None:
    with pytest.raises(ExperimentError, match="kill-leader"):
        experiment.find("no-such")


REPEATED = "faults: [{fault: kill, repeat: {begin: 2, end: 28, lasts: [1, 2], pause: [0.5, 1]}}]"


def test_a_random_schedule_is_the_seed_s_alone() -> None:
    plan = parse(MINIMAL + REPEATED, source="x.yml")
    assert schedule(plan.faults, 30, seed=7) == schedule(plan.faults, 30, seed=7)
    assert schedule(plan.faults, 30, seed=7) != schedule(plan.faults, 30, seed=8)


def test_a_random_schedule_keeps_to_its_spans() -> None:
    plan = parse(MINIMAL + REPEATED, source="x.yml")
    times = schedule(plan.faults, 30, seed=3)
    assert times[0].begin == 2
    assert len(times) >= 9
    for one, following in pairwise(times):
        assert 1 <= one.end - one.begin <= 2
        assert 0.5 <= following.begin - one.end <= 1


def test_nothing_lasts_longer_than_the_load() -> None:
    plan = parse(MINIMAL + "faults: [{fault: kill, at: 28, lasts: 10}]", source="x.yml")
    assert [(one.begin, one.end) for one in schedule(plan.faults, plan.duration, seed=1)] == [(28, 30)]


def test_what_is_written_can_be_read_again() -> None:
    for path in SHIPPED:
        plan = experiment.load(path)
        assert Experiment.model_validate_json(plan.model_dump_json()) == plan


@pytest.mark.parametrize(
    ("fault", "fewest"),
    [
        ("fault: cut, shape: ring", 4),
        ("fault: cut, shape: halves", 3),
        ("fault: cut, shape: isolate", 2),
        ("fault: move-replicas", 4),
        ("fault: drain-node", 4),
        ("fault: disturb, toxic: slicer", 2),
        ("fault: kill, target: follower", 2),
    ],
)
def test_a_cluster_too_small_for_a_fault_is_refused(fault: str, fewest: int) -> None:
    text = MINIMAL + "cluster: {{nodes: {}}}\nfaults: [{{{}, at: 1}}]"
    assert parse(text.format(fewest, fault), source="x").cluster.nodes == fewest
    with pytest.raises(ExperimentError, match=rf"faults\[0\]: .* needs {fewest} nodes or more to touch anything"):
        parse(text.format(fewest - 1, fault), source="x")


def test_in_the_smallest_cluster_that_is_allowed_links_are_cut() -> None:
    for shape in ("isolate", "deaf", "mute", "one-link", "halves", "bridge", "ring", "clients"):
        plan = Cut.model_validate({"fault": "cut", "shape": shape, "at": 1})
        fewest = plan.fewest_nodes(3)
        assert links.directions(plan, 1, range(2, fewest + 1))
