"""Which bindings fit: the rules one by one, and every kind against the plainest matcher that can be written."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmq.exchanges.matching import Matcher, words_of
from raftmq.metadata.exchange import Binding, ExchangeKind, ExchangeRecord

Pairs = Sequence[tuple[str, bytes]]


def naive(kind: ExchangeKind, binding: Binding, key: str, headers: Pairs) -> bool:
    """The rules, as they are told to people."""
    match kind:
        case ExchangeKind.DIRECT:
            return key == binding.routing_key
        case ExchangeKind.FANOUT:
            return True
        case ExchangeKind.TOPIC:
            return naive_pattern(list(words_of(binding.routing_key)), list(words_of(key)))
        case ExchangeKind.HEADERS:
            found = [
                any(name == wanted and (value == b"" or value == given) for wanted, given in headers)
                for name, value in binding.headers
            ]
            return any(found) if binding.any else all(found)


def naive_pattern(pattern: list[str], words: list[str]) -> bool:
    if not pattern:
        return not words
    first, rest = pattern[0], pattern[1:]
    if first == "#":
        return any(naive_pattern(rest, words[skipped:]) for skipped in range(len(words) + 1))
    return bool(words) and first in ("*", words[0]) and naive_pattern(rest, words[1:])


def fitting(kind: ExchangeKind, bindings: Sequence[Binding], key: str, headers: Pairs = ()) -> list[str]:
    by_name: dict[str, list[bytes]] = {}
    for name, value in headers:
        by_name.setdefault(name, []).append(value)
    matcher = Matcher(ExchangeRecord("x", kind, bindings=tuple(bindings)))
    return [binding.topic for binding in matcher.fitting(key, by_name)]


@pytest.mark.parametrize(
    ("pattern", "fits", "fits_not"),
    [
        ("orders.*.created", ["orders.eu.created", "orders..created"], ["orders.created", "orders.eu.x.created", ""]),
        ("#", ["", "a", "a.b.c", "*", "#"], []),
        ("orders.#", ["orders", "orders.a", "orders.a.b"], ["order", "", "x.orders"]),
        ("#.created", ["created", "a.created", "a.b.created"], ["created.a", ""]),
        ("a.#.z", ["a.z", "a.b.z", "a.z.z", "a.z.b.z"], ["a", "a.z.b", "z"]),
        ("*", ["a", "*", "#"], ["", "a.b"]),
        ("*.#.*", ["a.b", "a.b.c"], ["a", ""]),
        ("#.#", ["", "a", "a.b"], []),
        ("", [""], ["a", "."]),
        ("a.b", ["a.b"], ["a", "a.b.c", "a.*", "a.#"]),
        ("grün.*", ["grün.\u200b"], ["gru\u0308n.x"]),
    ],
)
def test_patterns(pattern: str, fits: list[str], fits_not: list[str]) -> None:
    bindings = [Binding(topic="t", routing_key=pattern)]
    assert [key for key in fits if not fitting(ExchangeKind.TOPIC, bindings, key)] == []
    assert [key for key in fits_not if fitting(ExchangeKind.TOPIC, bindings, key)] == []


def test_a_direct_exchange_takes_no_pattern_for_one() -> None:
    bindings = [Binding(topic="a", routing_key="x.*"), Binding(topic="b", routing_key="x.y"), Binding(topic="c")]
    assert fitting(ExchangeKind.DIRECT, bindings, "x.y") == ["b"]
    assert fitting(ExchangeKind.DIRECT, bindings, "x.*") == ["a"]
    assert fitting(ExchangeKind.DIRECT, bindings, "") == ["c"]


def test_headers_all_any_and_there_at_all() -> None:
    pair = (("format", b"pdf"), ("urgent", b""))
    bindings = [
        Binding(topic="all", headers=pair),
        Binding(topic="any", headers=pair, any=True),
        Binding(topic="always"),
    ]
    assert fitting(ExchangeKind.HEADERS, bindings, "", [("format", b"pdf"), ("urgent", b"no")]) == [
        "all", "any", "always",
    ]  # fmt: skip
    assert fitting(ExchangeKind.HEADERS, bindings, "", [("format", b"zip"), ("format", b"pdf")]) == ["any", "always"]
    assert fitting(ExchangeKind.HEADERS, bindings, "", [("format", b"zip")]) == ["always"]
    assert fitting(ExchangeKind.HEADERS, bindings, "", [("urgent", b"")]) == ["any", "always"]


def test_bindings_that_fit_come_in_the_order_in_which_they_were_added() -> None:
    patterns = ["#", "a.*", "a.b", "*.b", "a.#", "x"]
    bindings = [Binding(topic=f"t{number}", routing_key=pattern) for number, pattern in enumerate(patterns)]
    assert fitting(ExchangeKind.TOPIC, bindings, "a.b") == ["t0", "t1", "t2", "t3", "t4"]


def test_no_key_takes_exponential_time() -> None:
    """Backtracking would take 2^40 steps and more."""
    bindings = [Binding(topic="t", routing_key=".".join(["#", "a"] * 16 + ["b"]))]
    assert fitting(ExchangeKind.TOPIC, bindings, ".".join(["a"] * 127)) == []


words = st.sampled_from(["a", "b", "", "*", "#"])
keys = st.lists(words, max_size=6).map(".".join)
headers = st.lists(st.tuples(st.sampled_from("pqr"), st.sampled_from([b"", b"1", b"2"])), max_size=3)
bindings_of = st.builds(
    Binding,
    topic=st.integers(0, 10**6).map(str),
    routing_key=keys,
    headers=headers.map(dict).map(lambda found: tuple(sorted(found.items()))),
    any=st.booleans(),
)


@given(st.sampled_from(ExchangeKind), st.lists(bindings_of, max_size=8, unique_by=lambda b: b.topic), keys, headers)
def test_every_kind_agrees_with_the_plainest_matcher(
    kind: ExchangeKind, bindings: list[Binding], key: str, given_headers: Pairs
) -> None:
    expected = [binding.topic for binding in bindings if naive(kind, binding, key, given_headers)]
    assert fitting(kind, bindings, key, given_headers) == expected
