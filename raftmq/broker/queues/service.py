"""The methods of ``raftmq.v1.Queue``, for the table."""

from __future__ import annotations

from raftmq.broker.dispatch import Entry, StreamEntry
from raftmq.broker.queues.describing import Describing
from raftmq.broker.queues.groups import QueueGroupMethods
from raftmq.broker.queues.handing import HandingOver
from raftmq.broker.queues.processed import ProcessedKeys
from raftmq.broker.queues.receiving import Receiving
from raftmq.broker.queues.tending import Tending
from raftmq.broker.queues.verdicts import Verdicts
from raftmq.broker.queues.work import work
from raftmq.broker.view import View


class QueueService:
    """See the package's docstring."""

    def __init__(self, view: View) -> None:
        self._groups = QueueGroupMethods(view)
        self._receiving = Receiving(view)
        self._verdicts = Verdicts(view, self._groups)
        self._handing = HandingOver(view, self._groups)
        self._processed = ProcessedKeys(view, self._groups)
        self._describing = Describing(view, self._groups)
        self._tending = Tending(view, self._groups)

    def entries(self) -> dict[str, Entry | StreamEntry]:
        """For the table of methods."""
        return {
            **self._groups.entries(),
            **self._verdicts.entries(),
            **self._handing.entries(),
            **self._processed.entries(),
            **self._describing.entries(),
            **self._tending.entries(),
            "Queue.Work": StreamEntry(work),
            "Queue.Receive": Entry(self._receiving.receive, reads=False, target=self._receiving.target),
        }
