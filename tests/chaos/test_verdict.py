"""PASS has to be earned."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from raftmq.chaos.experiment import Experiment, parse
from raftmq.chaos.reading import of
from raftmq.chaos.verdict import (
    EXPERIMENT_FILE,
    FAULTS_FILE,
    HISTORY_FILE,
    Level,
    Verdict,
    judge,
    judge_folder,
)
from tests.chaos.events import Events, final, good, history, send

TEXT = "name: x\nshows: y\nminimum: {acknowledged: 4, polled: 5, in_faults: 1}\nfaults: [{fault: kill, at: 1}]\n"
FIRED = {"fault": 0, "name": "kill node 1", "injected_s": 0.1, "healed_s": 0.2, "fired": True, "violation": "",
         "evidence": {}}  # fmt: skip


def verdict(*parts: Events, text: str = "", **fault: Any) -> Verdict:
    return judge(parse(TEXT + text, source="x"), of(history(*parts)), [FIRED | fault])


def test_pass() -> None:
    found = verdict(*good())
    assert (found.level, found.reasons) == (Level.PASS, ())
    assert found.figures["acknowledged"] == 4


def test_a_violated_property_fails_it_with_the_first_evidence() -> None:
    found = verdict(*good(), send(9, 99, t=1, until=2, outcome="fail"), final(99, offset=7))
    assert found.level is Level.FAIL
    assert any(reason.startswith("no-phantom: records/0 offset 7: value 99") for reason in found.reasons)


def test_a_violation_counts_where_the_experiment_does_not_name_the_property() -> None:
    found = verdict(*good(), send(9, 98, 99, t=1, until=2, outcome="info"), final(98, offset=7))
    assert "batch-atomicity" not in parse(TEXT, source="x").checks
    assert any(reason.startswith("batch-atomicity") for reason in found.reasons)


def test_a_fault_that_did_not_fire_makes_it_invalid() -> None:
    found = verdict(*good(), fired=False)
    assert found.level is Level.INVALID
    assert found.reasons[0] == "kill node 1, at 0.1 s, did not fire: nothing shows it"


def test_what_a_node_must_never_do_fails_it() -> None:
    assert verdict(*good(), violation="it served").reasons == ("kill node 1: it served",)


def test_what_no_operation_shows_fails_it() -> None:
    found = verdict(*good(), [{"t": 999, "f": "amiss", "message": "node 2 ended by itself"}])
    assert (found.level, found.reasons) == (Level.FAIL, ("node 2 ended by itself",))


def test_too_few_operations_make_it_invalid() -> None:
    found = judge(
        parse("name: x\nshows: y\nminimum: {acknowledged: 5, polled: 5, faults: 0}", source="x"),
        of(history(*good())),
        [],
    )
    assert found.level is Level.INVALID
    assert found.reasons == ("only 4 records acknowledged, at least 5 are needed to show anything",)


def test_a_property_without_anything_to_examine_makes_it_invalid() -> None:
    found = verdict(*good(), text="checks: [topics]")
    assert (found.level, found.reasons) == (Level.INVALID, ("topics: there was nothing to examine",))


def test_a_violation_outweighs_what_is_missing() -> None:
    assert verdict(*good(), final(99, offset=7), fired=False).level is Level.FAIL


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a run leaves."""
    (tmp_path / EXPERIMENT_FILE).write_text(parse(TEXT, source="x").model_dump_json())
    (tmp_path / FAULTS_FILE).write_text(json.dumps(FIRED) + "\n")
    (tmp_path / HISTORY_FILE).write_text("".join(json.dumps(e) + "\n" for e in history(*good())))
    return tmp_path


def test_a_folder_is_judged_again_as_it_was(folder: Path) -> None:
    found, _ = judge_folder(folder)
    assert found == verdict(*good())


def test_a_verdict_can_be_written(folder: Path) -> None:
    found, _ = judge_folder(folder)
    content = json.loads(json.dumps(found.as_json()))
    assert content["level"] == "PASS"
    assert {one["name"] for one in content["judged"]} == set(Experiment.model_fields["checks"].default)
