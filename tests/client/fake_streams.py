"""ProduceStream as a fake node serves it: one result after the other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc.aio

from raftmq import status
from raftmq.errors import RaftmqError
from raftmq.v1 import broker_pb2

Append = Callable[[broker_pb2.ProduceRequest], broker_pb2.ProduceResponse]


class FakeStreams:
    """The streams of all nodes. Of the script's faults for "streamed", each message meets one: `refuse` is a result,
    `lose_answer` ends the stream after the append."""

    def __init__(self, note_call: Callable[[int, str], None], next_fault: Callable[[str], Any]) -> None:
        self._note_call = note_call
        self._next_fault = next_fault
        self._open = 0
        self._changed = asyncio.Event()

    async def ended(self) -> None:
        """Return when no node serves a stream."""
        while self._open:
            self._changed.clear()
            await self._changed.wait()

    async def serve(
        self, node_id: int, requests: AsyncIterator[broker_pb2.ProduceStreamRequest], context: Any, append: Append
    ) -> AsyncIterator[broker_pb2.ProduceStreamResponse]:
        self._note_call(node_id, "ProduceStream")
        self._open += 1
        try:
            async for message in requests:
                self._note_call(node_id, "streamed")
                fault = self._next_fault("streamed")
                if fault is not None and fault.gate is not None:
                    await fault.gate.wait()
                told = broker_pb2.ProduceStreamResponse(correlation_id=message.correlation_id)
                try:
                    if fault is not None and fault.refuse is not None:
                        raise fault.refuse
                    told.response.CopyFrom(append(message.produce))
                except RaftmqError as error:
                    told.error.CopyFrom(status.to_message(error))
                if fault is not None and fault.lose_answer:
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "injected: answer lost")
                yield told
        finally:
            self._open -= 1
            self._changed.set()
