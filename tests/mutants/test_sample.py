"""A sample of the gate that is quick, and what can be said of the whole of it without running it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.gate import ROOT, Results, search
from tests.mutants.report import BEGIN, END
from tests.mutants.table import all_mutants

SAMPLE = (
    "answer-before-sync", "leader-counts-itself-unsynced", "commit-earlier-terms-by-counting", "majority-is-half",
    "leader-rewrites-its-log", "acknowledge-on-append",
)  # fmt: skip
"""Each falls to nearly every seed: the search ends soon, whatever plans become."""
SEEDS = 10


@pytest.mark.parametrize("name", SAMPLE)
def test_a_known_bug_is_caught(name: str) -> None:
    tried, check = search(name, 0, SEEDS)
    assert check, f"{name} was not caught in {tried} seeds"


def test_there_are_many_and_each_says_what_is_wrong() -> None:
    mutants = all_mutants()
    assert len(mutants) >= 40
    assert len({mutant.what for mutant in mutants.values()}) == len(mutants)


def test_every_test_that_a_mutant_names_exists() -> None:
    for mutant in all_mutants().values():
        if mutant.test:
            file, _, name = mutant.test.partition("::")
            assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), mutant.test


def test_the_table_has_every_mutant() -> None:
    text = (ROOT / "chaos" / "README.md").read_text(encoding="utf-8")
    table = text.partition(BEGIN)[2].partition(END)[0]
    assert [line.split("`")[1] for line in table.splitlines() if "`" in line] == list(all_mutants())


def test_results_are_kept_for_the_same_code_only(tmp_path: Path) -> None:
    mutant = all_mutants()["forget-the-vote"]
    results = Results(tmp_path / "results.json")
    results.of(mutant, "one").tried = 30
    results.save()
    assert Results(tmp_path / "results.json").of(mutant, "one").tried == 30
    assert Results(tmp_path / "results.json").of(mutant, "two").tried == 0
