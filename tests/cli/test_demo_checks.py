"""Each check of the demo holds for a good run, and fails for each thing that it is there to find."""

from __future__ import annotations

import pytest

from raftmq.cli.demo import checks
from raftmq.cli.demo.checks import Check, Read, Replica, Sent

SENT = [
    Sent(0, b"N1", b"d0"),
    Sent(1, b"N2", b"d1"),
    Sent(2, None, b"d2"),
    Sent(3, b"N1", b"d3"),
]
READ = [
    Read(0, 0, 0, b"N1", b"d0"),
    Read(0, 1, 3, b"N1", b"d3"),
    Read(1, 0, 1, b"N2", b"d1"),
    Read(1, 1, 2, None, b"d2"),
]
EQUAL = [Replica(node, partition, 7 + partition, b"hash%d" % partition) for node in (1, 2, 3) for partition in (0, 1)]


def failed(check: Check) -> str:
    assert not check.passed
    return check.evidence


def replaced(read: Read, by: Read) -> list[Read]:
    return [by if other == read else other for other in READ]


def test_a_good_run_passes_every_check() -> None:
    results = [
        checks.all_acknowledged(4, SENT),
        checks.nothing_lost(SENT, READ),
        checks.nothing_twice(READ),
        checks.nothing_foreign(SENT, READ),
        checks.keys_in_order(READ),
        checks.replicas_equal(EQUAL, [1, 2, 3], 2),
    ]
    assert [check.name for check in results if not check.passed] == []


def test_a_row_that_was_never_acknowledged_is_found() -> None:
    assert failed(checks.all_acknowledged(5, SENT)) == "1 rows were not acknowledged: row 4"


def test_a_run_of_nothing_does_not_pass() -> None:
    assert failed(checks.all_acknowledged(4, [])).startswith("4 rows were not acknowledged: row 0, row 1, row 2, ...")


def test_a_lost_record_is_found() -> None:
    assert failed(checks.nothing_lost(SENT, READ[1:])) == "1 are lost or changed: row 0"


@pytest.mark.parametrize(
    "changed", [Read(0, 0, 0, b"N1", b"xx"), Read(0, 0, 0, b"N9", b"d0"), Read(0, 0, 0, None, b"d0")]
)
def test_a_changed_value_or_key_is_found(changed: Read) -> None:
    assert failed(checks.nothing_lost(SENT, replaced(READ[0], changed))) == "1 are lost or changed: row 0"


def test_a_row_that_came_twice_is_found() -> None:
    again = READ[0]._replace(offset=2)
    assert failed(checks.nothing_twice([*READ, again])) == "1 repeats: row 0 (2 times)"


def test_an_offset_that_was_given_twice_is_found() -> None:
    twin = Read(0, 1, 9, None, b"d9")
    assert failed(checks.nothing_twice([*READ, twin])) == "1 repeats: partition 0 offset 1 (2 times)"


def test_a_record_that_nobody_sent_is_found() -> None:
    stranger = Read(1, 2, -1, None, b"d9")
    evidence = failed(checks.nothing_foreign(SENT, [*READ, stranger]))
    assert evidence == "1 were never acknowledged: row -1 at partition 1 offset 2"


def test_a_key_out_of_order_is_found() -> None:
    swapped = [READ[0]._replace(offset=1), READ[1]._replace(offset=0), *READ[2:]]
    assert failed(checks.keys_in_order(swapped)) == "1 keys are out of order: key N1"


def test_the_order_in_which_partitions_were_read_does_not_matter() -> None:
    assert checks.keys_in_order(list(reversed(READ))).passed


def test_a_key_in_two_partitions_is_found() -> None:
    moved = replaced(READ[1], READ[1]._replace(partition=1, offset=2))
    assert failed(checks.keys_in_order(moved)) == "1 keys are out of order: key N1 (in several partitions)"


@pytest.mark.parametrize("change", [{"chain_hash": b"other"}, {"log_index": 6}])
def test_a_replica_that_differs_is_found(change: dict[str, bytes | int]) -> None:
    replicas = [EQUAL[0]._replace(**change), *EQUAL[1:]]  # type: ignore[arg-type]
    assert failed(checks.replicas_equal(replicas, [1, 2, 3], 2)) == "1 differ: partition 0"


def test_a_replica_that_does_not_answer_is_found() -> None:
    evidence = failed(checks.replicas_equal(EQUAL[:-1], [1, 2, 3], 2))
    assert evidence == "1 differ: partition 1 (no answer from node 3)"


def test_a_partition_without_any_answer_is_found() -> None:
    assert "no answer from node 1, 2, 3" in failed(checks.replicas_equal(EQUAL, [1, 2, 3], 3))


@pytest.mark.parametrize("change", [{"chain_hash": b""}, {"log_index": 0}])
def test_replicas_that_are_equal_because_they_are_empty_are_found(change: dict[str, bytes | int]) -> None:
    replicas = [replica._replace(**change) for replica in EQUAL]  # type: ignore[arg-type]
    assert "a replica without a chain hash" in failed(checks.replicas_equal(replicas, [1, 2, 3], 2))


def test_values_with_one_different_byte_have_different_digests() -> None:
    assert checks.digest(b"a") != checks.digest(b"b")
    assert checks.digest(None) == checks.digest(b"")
