"""For ``pytest -p tests.mutants.plugin``: the tests run with the mutant that RAFTMQ_MUTANT names."""

from __future__ import annotations

import os

import pytest

from tests.mutants.table import all_mutants

_PATCH = pytest.MonkeyPatch()


def pytest_configure() -> None:
    """Before anything is collected."""
    all_mutants()[os.environ["RAFTMQ_MUTANT"]].apply(_PATCH)


def pytest_unconfigure() -> None:
    """As if nothing had happened."""
    _PATCH.undo()
