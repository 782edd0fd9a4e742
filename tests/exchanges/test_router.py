"""From exchange to exchange to topics: each once, circles and alternates included."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmq.errors import UnknownExchange
from raftmq.exchanges import Router, Step
from raftmq.exchanges.matching import Matcher
from raftmq.metadata.exchange import Binding, ExchangeKind, ExchangeRecord

FANOUT, TOPIC, DIRECT = ExchangeKind.FANOUT, ExchangeKind.TOPIC, ExchangeKind.DIRECT


def to_topic(topic: str, key: str = "") -> Binding:
    return Binding(topic=topic, routing_key=key)


def to_exchange(exchange: str, key: str = "") -> Binding:
    return Binding(exchange=exchange, routing_key=key)


def exchange(name: str, *bindings: Binding, kind: ExchangeKind = FANOUT, alternate: str = "") -> ExchangeRecord:
    return ExchangeRecord(name, kind, alternate, bindings)


def router(*exchanges: ExchangeRecord) -> Router:
    return Router({one.name: one for one in exchanges})


def test_a_topic_is_named_once_however_many_ways_lead_to_it() -> None:
    routed = router(
        exchange("in", to_exchange("a"), to_topic("x"), to_exchange("b")),
        exchange("a", to_topic("y"), to_topic("x")),
        exchange("b", to_topic("x"), to_topic("z")),
    ).route("in", "")
    assert routed.topics == ("x", "y", "z")
    assert [step.exchange for step in routed.steps] == ["in", "a", "b"]


def test_a_circle_ends() -> None:
    routed = router(
        exchange("a", to_exchange("b"), to_exchange("a")), exchange("b", to_topic("t"), to_exchange("a"))
    ).route("a", "")
    assert routed.topics == ("t",)
    assert [step.exchange for step in routed.steps] == ["a", "b"]


def test_the_alternate_takes_over_where_nothing_fits() -> None:
    lost = to_topic("lost")
    found = router(exchange("in", to_topic("t", "k"), kind=DIRECT, alternate="spare"), exchange("spare", lost))
    assert found.route("in", "k").steps == (Step("in", (to_topic("t", "k"),)),)
    assert found.route("in", "other").topics == ("lost",)
    assert found.route("in", "other").steps == (Step("in", (), "spare"), Step("spare", (lost,)))


def test_a_binding_that_fits_is_not_unroutable_wherever_it_leads() -> None:
    routed = router(
        exchange("in", to_exchange("dead end"), alternate="spare"),
        exchange("dead end", kind=TOPIC),
        exchange("spare", to_topic("lost")),
    ).route("in", "")
    assert (routed.topics, [step.exchange for step in routed.steps]) == ((), ["in", "dead end"])


def test_alternates_in_a_circle_end_too() -> None:
    routed = router(exchange("a", alternate="b"), exchange("b", alternate="a")).route("a", "k")
    assert routed.topics == ()
    assert [(step.exchange, step.alternate) for step in routed.steps] == [("a", "b"), ("b", "a")]


def test_an_unknown_exchange() -> None:
    with pytest.raises(UnknownExchange) as refused:
        router().route("x" * 1000, "")
    assert refused.value.field == "exchange"
    assert len(refused.value.message) < 200


def test_what_has_not_changed_is_not_compiled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    original = Matcher.__init__

    def counted(matcher: Matcher, record: ExchangeRecord) -> None:
        compiled.append(record.name)
        original(matcher, record)

    monkeypatch.setattr(Matcher, "__init__", counted)
    same, before, after = exchange("same", to_topic("t")), exchange("changed"), exchange("changed", to_topic("u"))
    first = router(same, before, exchange("gone"))
    for name in ("same", "changed", "gone", "same"):
        first.route(name, "")
    assert compiled == ["same", "changed", "gone"]
    second = Router({one.name: one for one in (same, after)}, first)
    assert (second.route("same", "").topics, second.route("changed", "").topics) == (("t",), ("u",))
    assert compiled == ["same", "changed", "gone", "changed"]
    with pytest.raises(UnknownExchange):
        second.route("gone", "")


names = st.sampled_from("abcd")
graphs = st.dictionaries(
    names, st.tuples(st.lists(st.tuples(names, st.booleans(), st.sampled_from("kl")), max_size=4), names), min_size=1
)


@given(graphs, st.sampled_from("klm"))
def test_it_agrees_with_a_walk_to_the_fixed_point(
    graph: dict[str, tuple[list[tuple[str, bool, str]], str]], key: str
) -> None:
    """The set of what is reached, by the definition: add what fits until nothing is added."""
    records = {
        name: exchange(
            name,
            *(to_topic(to, k) if is_topic else to_exchange(to, k) for to, is_topic, k in bound
              if is_topic or to in graph),
            kind=DIRECT,
            alternate=alternate if alternate in graph else "",
        )
        for name, (bound, alternate) in graph.items()
    }  # fmt: skip
    start = min(records)
    reached = {start}
    topics: set[str] = set()
    while True:
        fitting = {name: [b for b in records[name].bindings if b.routing_key == key] for name in reached}
        further = {b.exchange for bound in fitting.values() for b in bound if b.exchange}
        further |= {records[n].alternate for n, bound in fitting.items() if not bound and records[n].alternate}
        topics = {b.topic for bound in fitting.values() for b in bound if b.topic}
        if further <= reached:
            break
        reached |= further
    routed = Router(records).route(start, key)
    assert set(routed.topics) == topics
    assert sorted(step.exchange for step in routed.steps) == sorted(reached)
    assert len(set(routed.topics)) == len(routed.topics)
