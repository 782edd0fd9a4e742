"""What a mutant is, and the list of all of them."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b

import pytest

Patch = pytest.MonkeyPatch
Apply = Callable[[Patch], None]

MODULES = ("consensus", "voting", "pump", "replicas", "machines", "queues", "groups", "control", "clients")
SEEDS = 500
"""How far the simulation is searched for a mutant."""
SEEDS_WITH_TEST = 5
"""The same, where a test catches it."""


@dataclass(frozen=True)
class Mutant:
    """One known bug. ``test``: the node id of a test that catches it; empty: the simulation alone has to."""

    name: str
    area: str
    what: str
    apply: Apply
    test: str = ""

    @property
    def seeds(self) -> int:
        """How many seeds are tried at most."""
        return SEEDS_WITH_TEST if self.test else SEEDS

    @property
    def digest(self) -> str:
        """Over its source: another one is another mutant."""
        return blake2b((inspect.getsource(self.apply) + self.test).encode(), digest_size=8).hexdigest()


_FOUND: dict[str, Mutant] = {}


def mutant(area: str, file: str = "", test: str = "") -> Callable[[Apply], Apply]:
    """Put a function into the list, under its name; its docstring says what is wrong. `file`, `test`: a test that
    catches it."""

    def enter(apply: Apply) -> Apply:
        name = apply.__name__.replace("_", "-")
        assert name not in _FOUND, f"two mutants are called {name}"
        assert apply.__doc__, f"{name} does not say what is wrong"
        _FOUND[name] = Mutant(
            name, area, apply.__doc__.strip().removesuffix("."), apply, f"{file}::{test}" if test else ""
        )
        return apply

    return enter


def all_mutants() -> dict[str, Mutant]:
    """By name, in the order of their modules."""
    for module in MODULES:
        importlib.import_module(f"tests.mutants.{module}")
    return dict(_FOUND)
