"""The checks of what nodes say of the cluster and hold of the machine, and of what is too slow."""

from __future__ import annotations

import pytest

from raftmq.chaos.checks.liveness import Bounds
from tests.chaos.events import fault, final, machine, metadata, observe, poll, resources, run, send

# -- L4


def test_l4_a_consumer_is_never_given_the_end() -> None:
    found = run("delivered", poll(0, 10, 11, t=5), final(10, 11, 12))
    assert found.violations == ["records/0: c was never given 1 of the records at offsets 2 to 2; the log ends at 3"]


def test_l4_sessions_of_one_consumer_count_together() -> None:
    found = run("delivered", poll(0, 10, t=5), poll(1, 11, t=6, session=2), final(10, 11))
    assert (found.examined, found.violations) == (2, [])


def test_l4_a_hole_between_sessions_is_seen() -> None:
    assert run("delivered", poll(0, 10, t=5), poll(2, 12, t=6, session=2), final(10, 11, 12)).count == 1


# -- L13


@pytest.mark.parametrize(("told", "violations"), [("OFFSET_OUT_OF_RANGE", 0), ("records", 1), ("NOT_READY", 1)])
def test_l13_a_read_below_the_start_is_refused(told: str, violations: int) -> None:
    below = [{"t": 5, "f": "below", "partition": "records/0", "offset": 4, "start": 5, "told": told}]
    found = run("log-start", below)
    assert (found.examined, found.count) == (1, violations)


# -- C1


def test_c1_metadata_of_one_process_gets_older() -> None:
    found = run("metadata-versions", metadata(1, 5, version=7), metadata(1, 6, version=6))
    assert found.violations == ["node 1 served metadata 6 at 0.000 s, after 7"]


def test_c1_a_process_that_starts_may_have_to_catch_up() -> None:
    assert run("metadata-versions", metadata(1, 5, version=7), metadata(1, 6, version=6, boot=2)).count == 0


def test_c1_one_version_says_two_things() -> None:
    found = run("metadata-versions", metadata(1, 5), metadata(2, 6, replicas=(1, 3)))
    assert found.count == 1
    assert "topic records" in found.violations[0]


def test_c1_in_the_end_versions_differ() -> None:
    found = run("metadata-versions", metadata(1, 5, last=True), metadata(2, 6, version=6, last=True))
    assert found.violations == ["in the end nodes serve different metadata: node 1 5, node 2 6"]


# -- C3


def test_c3_assigned_to_one_node_twice() -> None:
    assert run("assignments", metadata(1, 5, replicas=(2, 2))).count == 1


def test_c3_assigned_to_a_node_that_nobody_knows() -> None:
    assert "[9]" in run("assignments", metadata(1, 5, replicas=(1, 9))).violations[0]


def test_c3_assigned_to_too_few() -> None:
    assert run("assignments", metadata(1, 5, replicas=(1,))).count == 1


def test_c3_more_than_asked_for_only_on_the_way() -> None:
    assert run("assignments", metadata(1, 5, replicas=(1, 2, 3))).count == 0
    assert run("assignments", metadata(1, 5, replicas=(1, 2, 3), last=True)).count == 1


# -- C6


def test_c6_two_processes_are_one_start_of_a_node() -> None:
    found = run("incarnations", metadata(1, 5, pid=7), metadata(1, 6, pid=8))
    assert found.violations == ["processes 7 and 8 both served as start 1 of node 1, the latter at 0.000 s"]


def test_c6_the_count_of_starts_goes_back() -> None:
    assert run("incarnations", metadata(1, 5, boot=3), metadata(1, 6, boot=2)).count == 1


# -- resources


def test_threads_pile_up() -> None:
    found = run("resources", resources(1, 5), resources(1, 900, threads=57))
    assert found.violations == ["node 1: threads 20 before the faults, 57 after them"]


def test_one_reading_shows_nothing() -> None:
    assert run("resources", resources(1, 5)).examined == 0


# -- liveness on a busy machine


SECOND = 1_000_000


def late(*stalls: int) -> tuple[int, int, int]:
    """Violations, what is unclear and what was examined where a leader comes after 12 s of allowed 10."""
    healed = 1 * SECOND
    found = run(
        "liveness", fault(5, healed), send(1, 10, t=10, until=20, offset=0),
        *(machine(healed + (i + 1) * SECOND, lag=lag) for i, lag in enumerate(stalls)),
        send(2, 11, t=healed, until=healed + SECOND, offset=1), observe(1, healed + 12 * SECOND, term=1),
        bounds=Bounds(leader_s=10, acknowledged_s=10),
    )  # fmt: skip
    return found.count, len(found.unclear), found.examined


def test_too_late_on_a_machine_that_was_there_all_the_time() -> None:
    assert late() == (1, 0, 2)
    assert late(50_000, 20_000) == (1, 0, 2)


def test_too_late_on_a_machine_that_stalled_is_no_violation() -> None:
    assert late(600_000) == (0, 1, 2)


def test_a_stall_before_the_fault_was_healed_excuses_nothing() -> None:
    found = run(
        "liveness", machine(5, lag=9 * SECOND), fault(5, SECOND), send(1, 10, t=10, until=20, offset=0),
        observe(1, 30 * SECOND, term=1), bounds=Bounds(leader_s=10),
    )  # fmt: skip
    assert found.count == 2
