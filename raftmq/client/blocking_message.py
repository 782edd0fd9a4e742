"""A message of a queue, for programs without an event loop."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from raftmq.client.loop_thread import LoopThread
from raftmq.client.queue import QueueMessage


class BlockingMessage:
    """A message of a queue; see `QueueMessage`, whose fields and methods it has."""

    def __init__(self, thread: LoopThread, inner: QueueMessage) -> None:
        self._thread = thread
        self._inner = inner

    @property
    def inner(self) -> QueueMessage:
        """The message on the client's own thread."""
        return self._inner

    def __getattr__(self, name: str) -> Any:
        """A field as it is; of a method one that waits."""
        found = getattr(self._inner, name)
        if not callable(found):
            return found
        return lambda *args, **kwargs: self._thread.run(found(*args, **kwargs))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.run(self._inner.__aexit__(kind, error, trace))
