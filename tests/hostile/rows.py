"""One kind of bad request, and what must be answered to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.hostile.node import bodies


@dataclass(frozen=True)
class Row:
    """``messages`` to ``method`` end in ``reason``, which blames ``field``."""

    what: str
    method: str
    messages: tuple[bytes, ...]
    reason: str
    field: str = ""

    def __str__(self) -> str:
        return f"{self.method.rsplit('/', 1)[1]}-{self.what}".replace(" ", "_")


def row(method: str, what: str, message: Any, reason: str, field: str = "") -> Row:
    return Row(what, method, bodies([message]), reason, field)


def filled(kind: type[Any], values: dict[str, Any]) -> Any:
    """A message of this kind. Values may be of no type that it knows, and names no name in Python."""
    return kind(**values)
