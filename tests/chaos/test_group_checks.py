"""The checks of consumer groups: each accepts a good history, and refuses one with the fault that it is there for."""

from __future__ import annotations

import pytest

from raftmq.chaos import checks
from tests.chaos.events import Events, final, run
from tests.chaos.group_lines import ask, commit, given, good_group, owns

GROUP_CHECKS = [name for name in checks.NAMES if name.startswith("group-")]


def violations(check: str, *parts: Events) -> int:
    return run(check, *parts).count


def test_there_are_five() -> None:
    assert len(GROUP_CHECKS) == 5


@pytest.mark.parametrize("name", checks.NAMES)
def test_a_good_history_is_accepted(name: str) -> None:
    found = run(name, *good_group())
    assert (found.violations, found.unclear) == ([], [])
    assert found.examined > 0 or name not in GROUP_CHECKS


# -- O1


def test_o1_an_offset_that_nobody_committed() -> None:
    found = run("group-offsets", commit(1, "a", 1, 2, t=1, until=2), ask(2, 3, t=3, until=4))
    assert found.violations == ["readers, records/0: asked at 0.000 s, told 3, which nobody committed"]


def test_o1_a_commit_that_was_refused_is_told() -> None:
    assert violations("group-offsets", commit(1, "a", 1, 2, t=1, until=2, refused=True), ask(2, 2, t=3, until=4)) == 1
    assert violations("group-offsets", commit(1, "a", 1, 2, t=1, until=2, outcome="fail"), ask(2, 2, t=3, until=4)) == 1
    assert violations("group-offsets", commit(1, "a", 1, 2, t=1, until=2, outcome="info"), ask(2, 2, t=3, until=4)) == 0


def test_o1_an_old_offset_is_told() -> None:
    both = commit(1, "a", 1, 2, t=1, until=2), commit(2, "a", 1, 3, t=3, until=10)
    assert violations("group-offsets", *both, ask(3, 2, t=11, until=12)) == 1
    assert violations("group-offsets", *both, ask(3, 2, t=9, until=12)) == 0  # asked before it was sure
    assert violations("group-offsets", *both, ask(3, 3, t=4, until=5)) == 0


def test_o1_a_commit_is_forgotten() -> None:
    found = run("group-offsets", commit(1, "a", 1, 2, t=1, until=2), ask(2, None, t=3, until=4))
    assert found.violations == ["readers, records/0: asked at 0.000 s, told nothing, though 2 was committed before"]


def test_o1_a_commit_that_comes_later_is_told() -> None:
    assert violations("group-offsets", ask(1, 2, t=1, until=2), commit(2, "a", 1, 2, t=3, until=4)) == 1


# -- O2


def test_o2_what_is_told_falls() -> None:
    known = commit(1, "a", 1, 2, t=1, until=2)
    assert violations("group-progress", known, ask(2, 3, t=3, until=4), ask(3, 2, t=5, until=6)) == 1
    assert violations("group-progress", known, ask(2, 3, t=3, until=6), ask(3, 2, t=5, until=7)) == 0


def test_o2_a_commit_goes_back() -> None:
    high = commit(1, "a", 1, 5, t=1, until=2)
    assert violations("group-progress", high, commit(2, "a", 1, 4, t=3, until=4)) == 1
    assert violations("group-progress", high, commit(2, "a", 1, 4, t=3, until=4, refused=True)) == 0


# -- O3


def test_o3_a_zombie_commits() -> None:
    taken = owns("a", 1, t=1), owns("b", 2, t=10)
    assert violations("group-fencing", *taken, commit(1, "a", 1, 5, t=11, until=12)) == 1
    assert violations("group-fencing", *taken, commit(1, "a", 1, 5, t=9, until=12)) == 0
    assert violations("group-fencing", *taken, commit(1, "a", 1, 5, t=11, until=12, refused=True)) == 0
    assert violations("group-fencing", *taken, owns("a", 3, t=20), commit(1, "a", 3, 5, t=21, until=22)) == 0


def test_o3_an_older_epoch_after_a_newer_one() -> None:
    parts = owns("a", 1, t=1), commit(1, "b", 2, 5, t=2, until=3), commit(2, "a", 1, 6, t=4, until=5)
    found = run("group-fencing", *parts)
    assert any("under epoch 1" in one for one in found.violations)


# -- O4


def test_o4_two_owners_under_one_epoch() -> None:
    assert violations("group-owners", owns("a", 1, t=1), owns("b", 1, t=10)) == 1


def test_o4_the_one_before_still_reads() -> None:
    taken = owns("a", 1, t=1), owns("b", 2, t=10)
    assert violations("group-owners", *taken, given("a", 0, 1, t=11)) == 1
    assert violations("group-owners", *taken, given("a", 0, 1, t=9)) == 0
    assert violations("group-owners", *taken, owns("a", 3, t=20), given("a", 0, 1, t=21)) == 0


def test_o4_somebody_reads_who_was_never_told_to() -> None:
    assert violations("group-owners", owns("a", 1, t=5), given("b", 0, 1, t=4), given("b", 1, 2, t=6)) == 2


# -- O5


def test_o5_a_record_that_nobody_was_given_is_committed() -> None:
    found = run("group-delivered", given("a", 0, 2, t=1), commit(1, "a", 1, 3, t=2, until=3))
    assert found.violations == [
        "readers, records/0: a commits 3 at 0.000 s, and nobody was given offset 2",
    ]


def test_o5_a_gap_is_one_although_what_lies_behind_it_was_given() -> None:
    gap = given("a", 0, 2, t=1), given("b", 3, 5, t=2)
    assert violations("group-delivered", *gap, commit(1, "b", 1, 5, t=3, until=4)) == 1
    assert violations("group-delivered", *gap, given("a", 2, 3, t=2), commit(1, "b", 1, 5, t=3, until=4)) == 0


def test_o5_it_must_have_been_given_before() -> None:
    assert violations("group-delivered", given("a", 0, 2, t=5), commit(1, "a", 1, 2, t=4, until=6)) == 1


def test_o5_what_was_trimmed_is_nobodys_fault() -> None:
    trimmed = final(10, offset=2, start=2, end=3)
    assert violations("group-delivered", given("a", 2, 3, t=1), commit(1, "a", 1, 3, t=2, until=3), trimmed) == 0
