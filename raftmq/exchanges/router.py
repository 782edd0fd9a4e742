"""From an exchange along the bindings that fit to topics.

    publish ──> exchange ──binding──> topic
                   │  └─────binding──> exchange ──binding──> topic ...
                   └──none fits──> alternate exchange ──binding──> topic

Exchanges take their turns in the order in which they are reached, each once: circles are harmless, and a topic is
named once however many ways lead to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from raftmq.errors import UnknownExchange
from raftmq.exchanges.matching import Matcher
from raftmq.metadata.exchange import Binding, ExchangeRecord

NAME_SHOWN = 100


@dataclass(frozen=True, slots=True)
class Step:
    """An exchange's turn."""

    exchange: str
    bindings: tuple[Binding, ...]
    """Those that fit, in the order in which they were added."""
    alternate: str = ""
    """Where it goes on because none fits; empty: nowhere, or not needed."""


@dataclass(frozen=True, slots=True)
class Route:
    topics: tuple[str, ...]
    """Each once, in the order in which they are reached. None: unroutable."""
    steps: tuple[Step, ...]


class Router:
    """The exchanges of one image. A matcher is compiled when it is first needed, and taken over from the router before
    where the exchange is still the same object: there are never more of them than exchanges."""

    def __init__(self, exchanges: Mapping[str, ExchangeRecord], before: Router | None = None) -> None:
        self.exchanges = exchanges
        known: Mapping[str, Matcher] = {} if before is None else before._matchers
        self._matchers: dict[str, Matcher] = {
            name: matcher for name, matcher in known.items() if exchanges.get(name) is matcher.exchange
        }

    def route(self, exchange: str, routing_key: str, headers: Sequence[tuple[str, bytes]] = ()) -> Route:
        """Where a record goes that is published to `exchange`. Raises UnknownExchange."""
        if exchange not in self.exchanges:
            raise UnknownExchange(f"there is no exchange {exchange[:NAME_SHOWN]!r}", field="exchange")
        by_name: dict[str, list[bytes]] = {}
        for name, value in headers:
            by_name.setdefault(name, []).append(value)
        reached: dict[str, None] = {exchange: None}
        turns = [exchange]
        topics: dict[str, None] = {}
        steps: list[Step] = []
        for name in turns:
            step = self._step(name, routing_key, by_name)
            steps.append(step)
            topics.update((binding.topic, None) for binding in step.bindings if binding.topic)
            for further in (*(binding.exchange for binding in step.bindings), step.alternate):
                if further and further not in reached:
                    reached[further] = None
                    turns.append(further)
        return Route(tuple(topics), tuple(steps))

    def _step(self, name: str, routing_key: str, headers: Mapping[str, list[bytes]]) -> Step:
        matcher = self._matchers.get(name)
        if matcher is None:
            matcher = self._matchers[name] = Matcher(self.exchanges[name])
        fitting = tuple(matcher.fitting(routing_key, headers))
        return Step(name, fitting, "" if fitting else matcher.exchange.alternate)
