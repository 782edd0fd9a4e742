"""The checks of queues: each accepts a good history, and refuses one with the one fault that it is there for."""

from __future__ import annotations

import pytest

from raftmq.chaos import checks
from tests.chaos.events import Events, final, observe, run, send
from tests.chaos.queue_lines import counts, deliver, good_queue, left, queue, say

QUEUE_CHECKS = [name for name in checks.NAMES if name.startswith("queue-")]
STORED = send(1, 10, t=1, until=2, offset=0)


def violations(check: str, *parts: Events) -> int:
    return run(check, *parts).count


def test_there_are_seven() -> None:
    assert len(QUEUE_CHECKS) == 7


@pytest.mark.parametrize("name", QUEUE_CHECKS)
def test_a_good_history_is_accepted(name: str) -> None:
    found = run(name, *good_queue())
    assert (found.violations, found.unclear) == ([], [])
    assert found.examined > 0


@pytest.mark.parametrize("name", [name for name in checks.NAMES if not name.startswith("queue-")])
def test_the_other_checks_have_nothing_against_it(name: str) -> None:
    assert run(name, *good_queue(), observe(1, 6, term=1)).violations == []


# -- Q1


def test_q1_one_token_for_two_workers() -> None:
    assert violations("queue-tokens", queue(), deliver(0, 1, t=10), deliver(0, 1, t=11, by="w2")) == 1


def test_q1_two_verdicts_on_one_token() -> None:
    found = run(
        "queue-tokens", queue(), deliver(0, 1, t=10), say(2, "release", 0, 1, t=11, until=12),
        say(3, "ack", 0, 1, t=13, until=14),
    )  # fmt: skip
    assert found.violations == ["workers, records/0 offset 0: of lease 1 release was accepted, and at 0.000 s ack too"]


def test_q1_a_verdict_when_somebody_else_has_it() -> None:
    late = deliver(0, 1, t=10), deliver(0, 2, t=120, attempt=2, failures=1, by="w2")
    assert violations("queue-tokens", queue(), *late, say(2, "ack", 0, 1, t=130, until=140)) == 1
    assert violations("queue-tokens", queue(), *late, say(2, "extend", 0, 1, t=130, until=140)) == 1
    assert violations("queue-tokens", queue(), *late, say(2, "ack", 0, 1, t=130, until=140, outcome="fail")) == 0
    # Said before: it may have been accepted before the other one had it.
    assert violations("queue-tokens", queue(), *late, say(2, "ack", 0, 1, t=119, until=140)) == 0


def test_q1_what_was_said_before_may_be_said_again() -> None:
    parts = (
        queue(), deliver(0, 1, t=10), say(2, "release", 0, 1, t=11, until=12, outcome="info"),
        deliver(0, 2, t=20, attempt=2, by="w2"), say(3, "release", 0, 1, t=30, until=31),
    )  # fmt: skip
    assert violations("queue-tokens", *parts) == 0


# -- Q2


@pytest.mark.parametrize("verdict", ["ack", "park"])
def test_q2_what_is_done_comes_again(verdict: str) -> None:
    parts = queue(), deliver(0, 1, t=10), say(2, verdict, 0, 1, t=11, until=12)
    assert violations("queue-no-redelivery", *parts, deliver(0, 2, t=13, attempt=2)) == 1
    assert violations("queue-no-redelivery", *parts) == 0


def test_q2_what_nobody_knows_may_come_again() -> None:
    parts = queue(), deliver(0, 1, t=10), say(2, "ack", 0, 1, t=11, until=12, outcome="info")
    assert violations("queue-no-redelivery", *parts, deliver(0, 2, t=13, attempt=2)) == 0


# -- Q3


def test_q3_a_message_is_gone() -> None:
    found = run("queue-no-vanish", STORED, queue(), final(10), counts(done=1, acked=1))
    assert found.violations == [
        "workers, records/0 offset 0: value 10 was stored, is not parked, and nobody acknowledged it"
    ]


def test_q3_an_acknowledgement_that_surely_failed_is_none() -> None:
    told = deliver(0, 1, t=10), say(2, "ack", 0, 1, t=11, until=12, outcome="fail", error="LEASE_EXPIRED")
    assert violations("queue-no-vanish", STORED, queue(), *told, final(10), counts(done=1, acked=1)) == 1


def test_q3_one_of_unknown_outcome_may_have_counted() -> None:
    told = deliver(0, 1, t=10), say(2, "ack", 0, 1, t=11, until=12, outcome="info")
    assert violations("queue-no-vanish", STORED, queue(), *told, final(10), counts(done=1, acked=1)) == 0


def test_q3_what_is_still_under_way_shows_nothing() -> None:
    found = run("queue-no-vanish", STORED, queue(), final(10), left(0, state="ready"), counts(done=0, acked=0, ready=1))
    assert (found.count, len(found.unclear)) == (0, 1)
    assert len(run("queue-no-vanish", STORED, queue(), final(10), counts(done=0, acked=0, unseen=1)).unclear) == 1


# -- Q4


def test_q4_a_number_comes_twice() -> None:
    again = deliver(0, 1, t=10), say(2, "release", 0, 1, t=11, until=12), deliver(0, 2, t=13)
    assert violations("queue-attempts", queue(), *again) == 1


def test_q4_a_failure_is_not_counted() -> None:
    parts = queue(), deliver(0, 1, t=10), say(2, "retry", 0, 1, t=11, until=12)
    assert violations("queue-attempts", *parts, deliver(0, 2, t=13, attempt=2, failures=0)) == 1
    assert violations("queue-attempts", *parts, deliver(0, 2, t=13, attempt=2, failures=1)) == 0


def test_q4_a_release_counts_as_a_failure() -> None:
    parts = queue(), deliver(0, 1, t=10), say(2, "release", 0, 1, t=11, until=12)
    assert violations("queue-attempts", *parts, deliver(0, 2, t=13, attempt=2, failures=1)) == 1
    # A grant between them whose answer nobody got may have failed.
    assert violations("queue-attempts", *parts, deliver(0, 3, t=13, attempt=3, failures=1)) == 0


def test_q4_it_is_handed_out_after_its_last_failure() -> None:
    assert violations("queue-attempts", queue(), deliver(0, 9, t=10, attempt=4, failures=3)) == 1


def test_q4_the_last_failure_does_not_park() -> None:
    last = queue(), deliver(0, 3, t=10, attempt=3, failures=2), say(2, "retry", 0, 3, t=11, until=12, at_end=True)
    assert violations("queue-attempts", *last, counts(done=1, acked=0, retried=1)) == 1
    assert violations("queue-attempts", *last, left(0), counts(done=0, acked=0, retried=1, parked=1)) == 0


def test_q4_it_is_parked_too_early() -> None:
    assert violations("queue-attempts", queue(), left(0, failures=2), counts(done=0, acked=0, parked=1)) == 1
    parked = left(0, failures=2, reason="planned")
    assert violations("queue-attempts", queue(), parked, counts(done=0, acked=0, parked=1)) == 0


def test_q4_a_first_failure_is_told_to_be_the_last() -> None:
    told = deliver(0, 1, t=10), say(2, "retry", 0, 1, t=11, until=12, at_end=True)
    assert violations("queue-attempts", queue(), *told, counts(done=0, acked=0, retried=1)) == 1


# -- Q5


def test_q5_two_have_it() -> None:
    both = deliver(0, 1, t=10), deliver(0, 2, t=109, attempt=2, failures=1, by="w2")
    found = run("queue-leases", queue(), *both)
    assert found.count == 1
    assert "w1 had it under lease 1" in found.violations[0]


def test_q5_whoever_has_spoken_does_not_have_it() -> None:
    parts = deliver(0, 1, t=10), say(2, "release", 0, 1, t=20, until=90), deliver(0, 2, t=30, attempt=2, by="w2")
    assert violations("queue-leases", queue(), *parts) == 0


def test_q5_an_extension_counts() -> None:
    parts = deliver(0, 1, t=10), say(2, "extend", 0, 1, t=90, until=95, left=95), deliver(0, 2, t=150, attempt=2)
    assert violations("queue-leases", queue(), *parts) == 1
    refused = say(2, "extend", 0, 1, t=90, until=95, outcome="fail")
    assert violations("queue-leases", queue(), parts[0], refused, parts[2]) == 0


def test_q5_an_extension_that_is_told_when_it_may_be_over_says_nothing() -> None:
    """The worker was stopped while the answer came."""
    parts = deliver(0, 1, t=10), say(2, "extend", 0, 1, t=90, until=300, left=0), deliver(0, 2, t=250, attempt=2)
    assert violations("queue-leases", queue(), *parts) == 0


# -- Q6


def test_q6_a_record_is_in_no_state() -> None:
    found = run("queue-counts", queue(), final(10, 11), counts(done=1, acked=0))
    assert found.violations[0].startswith("workers, records/0: 2 records, but 1 in all: 1 done, 0 ready")


def test_q6_more_is_told_than_was_said() -> None:
    assert violations("queue-counts", queue(), final(10), counts(done=1, acked=1)) == 1


def test_q6_less_is_told_than_was_accepted() -> None:
    told = say(2, "retry", 0, 1, t=11, until=12)
    assert violations("queue-counts", queue(), told, final(10), counts(done=1, acked=0, retried=0)) == 1


def test_q6_what_nobody_knows_may_count_or_not() -> None:
    told = say(2, "ack", 0, 1, t=11, until=12, outcome="info")
    for acked in (0, 1):
        assert violations("queue-counts", queue(), told, final(10), counts(done=1, acked=acked)) == 0


def test_q6_parked_messages_are_not_shown() -> None:
    assert violations("queue-counts", queue(), final(10), counts(done=0, acked=0, parked=1)) == 1


# -- Q7


def test_q7_a_key_goes_backwards() -> None:
    order = deliver(1, 1, t=10), say(2, "ack", 1, 1, t=11, until=12), deliver(0, 2, t=13)
    assert violations("queue-key-order", queue(ordered=True), *order) == 1
    assert violations("queue-key-order", queue(ordered=False), *order) == 0


def test_q7_the_next_one_comes_while_somebody_has_the_one_before() -> None:
    both = deliver(0, 1, t=10), deliver(1, 2, t=20)
    assert violations("queue-key-order", queue(ordered=True), *both) == 1
    assert violations("queue-key-order", queue(ordered=True), *both, say(2, "ack", 0, 1, t=11, until=30)) == 0
    assert violations("queue-key-order", queue(ordered=True), *both, say(2, "ack", 0, 1, t=21, until=30)) == 1


def test_q7_two_of_a_key_come_together() -> None:
    assert violations("queue-key-order", queue(ordered=True), deliver(0, 1, t=10), deliver(1, 1, t=10)) == 1


def test_q7_another_key_flows_past() -> None:
    assert violations("queue-key-order", queue(ordered=True), deliver(0, 1, t=10), deliver(1, 2, t=11, key="l")) == 0


def test_q7_what_is_parked_lets_the_next_one_pass() -> None:
    both = deliver(0, 1, t=10), deliver(1, 2, t=200)
    assert violations("queue-key-order", queue(ordered=True), *both, left(0, reason="LEASE_EXPIRED")) == 0
