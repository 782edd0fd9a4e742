"""Which bindings of one exchange fit a record: compiled once, so that a record does not look at every binding.

    DIRECT    a dictionary by routing key
    FANOUT    nothing to look at
    TOPIC     a trie of words, walked over once by the set of places where the key so far may have led to
    HEADERS   each binding's headers, looked up in the record's

A topic exchange's pattern has words between dots; ``*`` stands for one word, ``#`` for none or more. The empty key has
no words (AMQP 0-9-1, 3.1.3.3). The set of places never has more than the trie has nodes, whatever the key: there is no
backtracking that a key could be made to provoke.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from raftmq.metadata.exchange import Binding, ExchangeKind, ExchangeRecord

ONE, ANY_NUMBER = "*", "#"

Headers = Mapping[str, Collection[bytes]]
"""A record's headers: the values of each name."""


def words_of(key: str) -> Sequence[str]:
    """The words of a routing key or pattern."""
    return key.split(".") if key else ()


class Matcher:
    """The bindings of one exchange."""

    def __init__(self, exchange: ExchangeRecord) -> None:
        self.exchange = exchange
        self._kind = exchange.kind
        self._direct: dict[str, list[Binding]] = {}
        self._root = _Place()
        for position, binding in enumerate(exchange.bindings):
            if self._kind is ExchangeKind.DIRECT:
                self._direct.setdefault(binding.routing_key, []).append(binding)
            elif self._kind is ExchangeKind.TOPIC:
                self._root.add(words_of(binding.routing_key), position)

    def fitting(self, routing_key: str, headers: Headers) -> Sequence[Binding]:
        """The bindings that fit, in the order in which they were added."""
        bindings = self.exchange.bindings
        match self._kind:
            case ExchangeKind.DIRECT:
                return self._direct.get(routing_key, ())
            case ExchangeKind.FANOUT:
                return bindings
            case ExchangeKind.TOPIC:
                return [bindings[position] for position in sorted(_led_to(self._root, words_of(routing_key)))]
            case ExchangeKind.HEADERS:
                return [binding for binding in bindings if _has(headers, binding)]


@dataclass(slots=True, eq=False)
class _Place:
    """A node of the trie: what the patterns that led here go on with, and the bindings whose patterns end here."""

    next: dict[str, _Place] = field(default_factory=dict)
    ends: list[int] = field(default_factory=list)
    repeats: bool = False
    """It stands behind a ``#``: any word leads from here to here."""

    def add(self, words: Sequence[str], position: int) -> None:
        place = self
        for word in words:
            place = place.next.setdefault(word, _Place(repeats=word == ANY_NUMBER))
        place.ends.append(position)


def _led_to(root: _Place, words: Iterable[str]) -> set[int]:
    """The bindings whose patterns fit all of `words`."""
    places = _with_none(dict.fromkeys((root,)))
    for word in words:
        following: dict[_Place, None] = {}
        for place in places:
            if place.repeats:
                following[place] = None
            # A word of a key is never special.
            for step in (word, ONE) if word not in (ONE, ANY_NUMBER) else (ONE,):
                if step in place.next:
                    following[place.next[step]] = None
        places = _with_none(following)
    return {position for place in places for position in place.ends}


def _with_none(places: dict[_Place, None]) -> dict[_Place, None]:
    """`places`, and those behind a ``#`` that stands for no word. (Dicts, because the order of sets is no order.)"""
    waiting = list(places)
    while waiting:
        behind = waiting.pop().next.get(ANY_NUMBER)
        if behind is not None and behind not in places:
            places[behind] = None
            waiting.append(behind)
    return places


def _has(headers: Headers, binding: Binding) -> bool:
    found = (name in headers and (not value or value in headers[name]) for name, value in binding.headers)
    return any(found) if binding.any else all(found)
