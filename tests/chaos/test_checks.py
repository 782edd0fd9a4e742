"""Every check accepts a good history, and can fail: on a history with the one fault that it is there for."""

from __future__ import annotations

import pytest

from raftmq.chaos import checks
from raftmq.chaos.checks.findings import KEPT_MAX
from raftmq.chaos.checks.liveness import Bounds
from raftmq.chaos.checks.topics import HEARD_WITHIN_US
from raftmq.chaos.experiment import DEFAULT_CHECKS
from tests.chaos.events import (
    P,
    client,
    fault,
    final,
    good,
    latest,
    observe,
    poll,
    replica,
    run,
    send,
    topic,
)


@pytest.mark.parametrize("name", checks.NAMES)
def test_a_good_history_is_accepted(name: str) -> None:
    assert run(name, *good()).violations == []


@pytest.mark.parametrize("name", [*DEFAULT_CHECKS, "batch-atomicity"])
def test_a_good_history_gives_it_something_to_examine(name: str) -> None:
    assert run(name, *good()).examined > 0


@pytest.mark.parametrize("name", checks.NAMES)
def test_an_empty_history_shows_nothing(name: str) -> None:
    assert run(name).examined == 0


@pytest.mark.parametrize("name", checks.NAMES)
def test_it_says_what_it_holds_a_history_to(name: str) -> None:
    (statement,) = (one.statement for one in checks.all_checks(Bounds()) if one.name == name)
    assert len(statement) > 30


# -- L1


def test_l1_two_producers_told_one_offset() -> None:
    found = run("offset-agreement", send(1, 10, t=1, until=2, offset=0), send(2, 11, t=3, until=4, offset=0))
    assert found.violations == ["records/0 offset 0: value 11 was acknowledged there, but value 10 lies there"]


def test_l1_a_consumer_is_given_another_record_than_the_log_has() -> None:
    assert run("offset-agreement", poll(0, 11, t=5), final(10)).count == 1


# -- L2


def test_l2_one_value_at_two_offsets() -> None:
    found = run("no-duplicate", send(1, 10, t=1, until=2, offset=0), final(10, 10))
    assert found.violations == ["value 10 is at records/0 offset 0 and at records/0 1"]


# -- L3


def test_l3_an_acknowledged_record_is_gone() -> None:
    found = run("no-lost-write", send(1, 10, t=1, until=2, offset=0), final())
    assert found.violations == [
        "records/0: value 10 was acknowledged at 0.000 s at offset 0; there is nothing now",
    ]


def test_l3_an_acknowledged_record_was_replaced() -> None:
    assert run("no-lost-write", send(1, 10, t=1, until=2, offset=0), final(11)).count == 1


def test_l3_an_old_duplicate_without_an_offset_must_be_somewhere() -> None:
    acknowledged = send(1, 10, t=1, until=2, offset=-1)
    assert run("no-lost-write", acknowledged, final(10)).count == 0
    assert run("no-lost-write", acknowledged, final(11)).count == 1


def test_l3_what_lies_below_the_log_start_was_trimmed() -> None:
    acknowledged = send(1, 10, t=1, until=2, offset=0)
    assert run("no-lost-write", acknowledged, final(11, offset=1, start=1, end=2)).count == 0


# -- L5


def test_l5_a_value_that_nobody_sent() -> None:
    assert run("no-phantom", final(10)).violations == ["records/0 offset 0: value 10 was sent by nobody"]


def test_l5_bytes_that_no_workload_wrote() -> None:
    assert run("no-phantom", poll(0, -1, t=5)).count == 1


def test_l5_a_record_that_surely_was_not_stored() -> None:
    found = run("no-phantom", send(1, 10, t=1, until=2, outcome="fail"), final(10))
    assert found.count == 1
    assert "surely was not stored" in found.violations[0]


def test_l5_a_record_in_another_partition_than_it_was_sent_to() -> None:
    assert run("no-phantom", send(1, 10, t=1, until=2, offset=0, partition="records/1"), final(10)).count == 1


def test_l5_a_record_that_was_read_before_it_was_sent() -> None:
    assert run("no-phantom", poll(0, 10, t=1), send(1, 10, t=5, until=6, offset=0)).count == 1


def test_l5_a_record_of_unknown_outcome_may_be_there() -> None:
    assert run("no-phantom", send(1, 10, t=1, until=2, outcome="info"), final(10)).count == 0


# -- L6


def test_l6_a_later_record_before_an_earlier_one() -> None:
    found = run("real-time-order", send(1, 10, t=1, until=2, offset=5), send(2, 11, t=3, until=4, offset=4, by="b"))
    assert found.count == 1


def test_l6_records_that_were_under_way_together_may_have_any_order() -> None:
    assert run("real-time-order", send(1, 10, t=1, until=4, offset=5), send(2, 11, t=2, until=3, offset=4)).count == 0


# -- L7


def test_l7_acknowledged_offsets_of_one_producer_fall() -> None:
    parts = (client("a"), send(1, 10, t=1, until=9, offset=5), send(2, 11, t=2, until=8, offset=4))
    assert run("producer-order", *parts).count == 1


def test_l7_a_record_of_unknown_outcome_behind_its_successor() -> None:
    parts = (send(1, 10, t=1, until=9, outcome="info"), send(2, 11, t=2, until=8, offset=0), final(11, 10))
    assert run("producer-order", client("a"), *parts).count == 1
    assert run("producer-order", client("a", idempotent=False), *parts).count == 0


def test_l7_a_zombie_is_acknowledged() -> None:
    parts = (
        client("old", producer="7", epoch=0),
        client("new", producer="7", epoch=1),
        send(1, 10, t=1, until=2, offset=0, by="new"),
        send(2, 11, t=3, until=4, offset=1, by="old"),
    )
    assert run("fencing", *parts).count == 1


def test_l7_a_zombie_is_stored_behind_its_successor() -> None:
    parts = (
        client("old", producer="7", epoch=0),
        client("new", producer="7", epoch=1),
        send(1, 11, t=1, until=9, outcome="info", by="old"),
        send(2, 10, t=2, until=3, offset=0, by="new"),
    )
    assert run("fencing", *parts, final(10, 11)).count == 1
    assert run("fencing", *parts, final(11, 10)).count == 0


# -- L8


@pytest.mark.parametrize("second", [0, 1])
def test_l8_an_offset_comes_again(second: int) -> None:
    assert run("poll-order", poll(0, 10, 11, t=1), poll(second, 12, t=2)).count == 1


def test_l8_a_record_is_passed_over() -> None:
    found = run("poll-order", poll(0, 10, t=1), poll(2, 12, t=2), final(10, 11, 12))
    assert found.count == 1
    assert found.violations[0].endswith("was given offset 2 after 0, and never 1")


def test_l8_another_session_may_begin_anywhere() -> None:
    assert run("poll-order", poll(0, 10, 11, t=1), poll(0, 10, t=2, session=2)).count == 0


# -- L9


def test_l9_a_record_that_was_read_disappears() -> None:
    found = run("no-dirty-read", poll(0, 10, 11, t=1_500_000), final(10))
    assert found.violations == [
        "records/0 offset 1: value 11 was given to a consumer at 1.500 s; there is nothing now",
    ]


# -- L10


def test_l10_an_answer_that_leaves_out_what_was_acknowledged() -> None:
    assert run("latest-offset", send(1, 10, t=1, until=2, offset=4), latest(2, 4, t=3, until=5)).count == 1


def test_l10_an_answer_that_leaves_out_what_was_read() -> None:
    assert run("latest-offset", poll(4, 10, t=2), latest(2, 4, t=3, until=5)).count == 1


def test_l10_answers_that_fall() -> None:
    assert run("latest-offset", latest(1, 5, t=1, until=2), latest(2, 4, t=3, until=4)).count == 1


def test_l10_a_question_that_was_under_way_owes_nothing_to_what_came_meanwhile() -> None:
    assert run("latest-offset", latest(2, 0, t=1, until=9), send(1, 10, t=2, until=3, offset=4)).count == 0


# -- L11


def test_l11_epochs_fall_along_the_log() -> None:
    later = [{"t": 902, "f": "final", "partition": P, "offset": 1, "epoch": 1, "values": [11]}]
    assert run("epoch-order", final(10, epoch=2), later).count == 1


def test_l11_a_record_has_another_epoch_than_was_told() -> None:
    assert run("epoch-order", send(1, 10, t=1, until=2, offset=0, epoch=3), final(10, epoch=4)).count == 1


def test_l11_two_leaders_in_one_epoch() -> None:
    assert run("epoch-order", observe(1, 5, term=7), observe(2, 6, term=7)).count == 1
    assert run("epoch-order", observe(1, 5, term=7), observe(2, 6, term=8)).count == 0


def test_l11_a_topic_made_anew_counts_its_epochs_from_the_start() -> None:
    assert run("epoch-order", observe(1, 5, term=1, group=3), observe(2, 6, term=1, group=4)).count == 0


# -- L12


@pytest.mark.parametrize("stored", [(10, 11), (11, 12), (10, 13, 11, 12), (12, 11, 10)])
def test_l12_a_batch_is_torn(stored: tuple[int, ...]) -> None:
    parts = (send(1, 10, 11, 12, t=1, until=2, outcome="info"), send(2, 13, t=1, until=2, outcome="info"))
    assert run("batch-atomicity", *parts, final(*stored)).count == 1


def test_l12_a_batch_of_unknown_outcome_may_be_missing_whole() -> None:
    assert run("batch-atomicity", send(1, 10, 11, t=1, until=2, outcome="info"), final()).count == 0


# -- L13


def test_l13_the_start_falls() -> None:
    assert run("log-start", latest(1, 9, t=1, until=2, start=5), latest(2, 9, t=3, until=4, start=4)).count == 1


def test_l13_the_start_passes_the_end() -> None:
    assert run("log-start", latest(1, 4, t=1, until=2, start=5)).count == 1


# -- L14


@pytest.mark.parametrize("other", [(9, "cd", 1), (8, "ab", 1)])
def test_l14_replicas_differ(other: tuple[int, str, int]) -> None:
    assert run("replicas-equal", replica(1, 9, "ab", 1), replica(2, *other)).count == 1


def test_l14_the_reading_ends_before_the_high_watermark() -> None:
    assert run("replicas-equal", final(10, end=2)).count == 1


def test_l14_a_replica_ends_before_the_reading() -> None:
    assert run("replicas-equal", final(10, 11), replica(1, 9, "ab", 1)).count == 1


# -- C2, C5


def test_c2_two_creations_win() -> None:
    found = run("topics", topic(1, "create", "x", t=1, until=5, x=1), topic(2, "create", "x", t=2, until=6, x=2))
    assert found.violations == ["topic x was created twice, at 0.000 s and 0.000 s"]


def test_c2_a_deletion_between_two_creations_explains_them() -> None:
    parts = (topic(1, "create", "x", t=1, until=2, x=1), topic(3, "create", "x", t=5, until=6, x=2))
    for outcome, violations in (("ok", 0), ("info", 0), ("fail", 1)):
        assert run("topics", *parts, topic(2, "delete", "x", t=3, until=4, outcome=outcome)).count == violations


def test_c2_a_created_topic_is_not_listed() -> None:
    made = topic(1, "create", "x", t=1, until=2, x=1)
    for before, violations in ((HEARD_WITHIN_US, 1), (HEARD_WITHIN_US - 1, 0)):
        listed = topic(2, "list", "", t=2 + before, until=3 + before)
        assert run("topics", made, listed).count == violations, "a change takes a moment to be heard of everywhere"


def test_c2_an_id_is_given_twice() -> None:
    assert (
        run("topics", topic(1, "create", "x", t=1, until=2, x=1), topic(2, "create", "y", t=1, until=2, y=1)).count >= 1
    )


def test_c5_a_deleted_topic_comes_back() -> None:
    parts = (topic(1, "create", "x", t=1, until=2, x=1), topic(2, "delete", "x", t=3, until=4))
    late = 4 + HEARD_WITHIN_US
    assert run("topics", *parts, topic(3, "list", "", t=late, until=late + 1, x=1)).count == 1


def test_c2_an_unknown_creation_may_happen_late() -> None:
    parts = (
        topic(1, "create", "x", t=1, until=2, outcome="info"),
        topic(2, "delete", "x", t=3, until=4),
        topic(3, "list", "", t=4 + HEARD_WITHIN_US, until=5 + HEARD_WITHIN_US, x=1),
    )
    assert run("topics", *parts).count == 0


def test_c2_a_node_that_was_cut_off_may_list_what_was() -> None:
    late = 2 + HEARD_WITHIN_US
    made, listed = topic(1, "create", "x", t=1, until=2, x=1), topic(2, "list", "", t=late, until=late + 1)
    assert run("topics", made, listed).count == 1
    assert run("topics", made, listed, fault(10, 20)).count == 0


# -- liveness


def test_liveness_nobody_leads_after_the_fault() -> None:
    parts = (fault(10, 20), send(1, 10, t=30, until=40, offset=0))
    assert run("liveness", *parts).violations == ["records/0: no leader after the last fault was healed, at 0.000 s"]


def test_liveness_nothing_is_acknowledged_after_the_fault() -> None:
    assert run("liveness", fault(10, 20), send(1, 10, t=1, until=2, offset=0), observe(1, 30, term=1)).count == 1


def test_liveness_it_takes_too_long() -> None:
    parts = (fault(10, 20), observe(1, 30, term=1), send(1, 10, t=30, until=2_000_020, offset=0))
    assert run("liveness", *parts, bounds=Bounds(acknowledged_s=3)).count == 0
    assert run("liveness", *parts, bounds=Bounds(acknowledged_s=1)).count == 1


def test_a_fault_that_was_never_healed_leaves_nothing_to_examine() -> None:
    assert run("liveness", fault(10, 20)[:1], send(1, 10, t=30, until=40, offset=0)).examined == 0


# -- evidence


def test_evidence_is_bounded_and_the_rest_is_counted() -> None:
    found = run("no-phantom", final(*range(1, 101)))
    assert found.count == 100
    assert len(found.violations) == KEPT_MAX
    assert found.violations[0].startswith("records/0 offset 0:")
