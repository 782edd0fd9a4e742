"""Dead letters in the simulation: messages are parked, copied and removed while leaders come and go."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from raftmq.sim.plan import Plan, draw
from raftmq.sim.queueing import LETTERS
from raftmq.sim.simulation import run_plan
from tests.mutants.table import all_mutants
from tests.sim.test_queueing import dense


def lettered(seed: int, *, remove: bool) -> Plan:
    """A dense plan of queues in which much is parked, and some of it redriven."""
    plan = dense(seed, attempts_max=1, dead_letter_topic=LETTERS, dead_letter_remove=remove)
    queues = [replace(queue, tending=("redrive",)) for queue in plan.queues]
    return replace(plan, queues=queues, topics={**plan.topics, LETTERS: 1})


def test_what_is_parked_reaches_the_topic_of_dead_letters() -> None:
    results = [run_plan(lettered(seed, remove=seed == 1)) for seed in range(2)]
    assert [result.error for result in results] == [""] * len(results)
    reached = sum((result.states for result in results), Counter[str]())
    for state in (
        "dead letters copied",
        "dead letters removed",
        "dead letters copied by another leader",
        "dead letters of a message parked again",
    ):
        assert reached[state], (state, reached)


def test_of_the_seeds_with_queues_some_have_dead_letters() -> None:
    settings = [queue.settings for seed in range(600) for queue in draw(seed).queues]
    lettered = [one for one in settings if one.dead_letter_topic]
    assert 0.2 < len(lettered) / len(settings) < 0.5
    assert {one.dead_letter_remove for one in lettered} == {False, True}


@pytest.mark.parametrize("name", ["letters-taken-for-sent", "letters-sent-under-new-ids"])
def test_a_bug_that_is_put_back_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    all_mutants()[name].apply(monkeypatch)
    errors = (run_plan(lettered(seed, remove=False)).error for seed in range(6))
    assert any(error.startswith("Q9") for error in errors)
