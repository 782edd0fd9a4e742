from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hostile.node import Node, serving


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """One for all tests of a module: none of them may leave a trace in it."""
    with serving(tmp_path_factory.mktemp("hostile")) as node:
        yield node
