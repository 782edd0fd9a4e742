"""The client for programs without an event loop: the asynchronous one, run by a thread of its own.

    with raftmq.blocking.connect("127.0.0.1:9401") as client:
        client.run(client.admin.create_topic("orders", partitions=3))
        with client.producer("orders") as producer:
            receipt = producer.send(b"hello", key=b"customer-7")
        with client.consumer("orders", start="earliest", until="high_watermark") as consumer:
            for record in consumer:
                print(record.value)

Nothing is done here a second time: every method hands a coroutine of the client to its loop and waits, so that
parameters, errors and promises are those of the method of the same name. May be used by several threads.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from functools import partial, wraps
from types import TracebackType
from typing import Any, Concatenate, Generic, NamedTuple, ParamSpec, Self, TypeVar

from raftmq.client.blocking_message import BlockingMessage
from raftmq.client.client import Client
from raftmq.client.client import connect as connect_async
from raftmq.client.consumer import Consumer
from raftmq.client.group_consumer import GroupConsumer
from raftmq.client.loop_thread import LoopThread
from raftmq.client.membership import Partition
from raftmq.client.producer import HEADER_OVERHEAD_BYTES, RECORD_OVERHEAD_BYTES, Producer
from raftmq.client.queue import AckReceipt, QueueMessage, QueueWorker
from raftmq.client.types import ConsumedBatch, ConsumedRecord, Headers, RecordReceipt
from raftmq.errors import InvalidArgument, Overloaded, RaftmqError

P = ParamSpec("P")
R = TypeVar("R")
Inner = TypeVar("Inner", bound=Producer | Consumer | GroupConsumer | QueueWorker)
Facade = TypeVar("Facade", bound="_Facade[Any]")

DeliveryCallback = Callable[[RecordReceipt | RaftmqError], None]
"""Called once, on the client's thread: it must be quick, and must not wait for the client."""
POSTED_BYTES_MAX = 64 * 1024 * 1024


class _Facade(Generic[Inner]):
    """A producer or consumer, opened and closed on the client's loop."""

    def __init__(self, thread: LoopThread, inner: Inner) -> None:
        self._thread = thread
        self._inner: Inner = inner
        self._open = False

    def __enter__(self) -> Self:
        self._thread.run(self._inner.__aenter__())
        self._open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open = False
        self._thread.run(self._inner.__aexit__(kind, error, trace))

    def close(self) -> None:
        self.__exit__(None, None, None)


def _waited(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[_Facade[Any], P], R]:
    """`method` of what is inside, waited for."""

    @wraps(method)
    def call(facade: _Facade[Any], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return facade._thread.run(method(facade._inner, *args, **kwargs))

    return call


def _made(
    method: Callable[Concatenate[Client, P], Any], facade: Callable[[LoopThread, Any], Facade]
) -> Callable[Concatenate[BlockingClient, P], Facade]:
    """What `method` of the client makes, behind a facade."""

    @wraps(method)
    def call(client: BlockingClient, /, *args: P.args, **kwargs: P.kwargs) -> Facade:
        async def make() -> Any:
            return method(client._client, *args, **kwargs)

        return facade(client._thread, client._thread.run(make()))

    return call


def _asked(
    method: Callable[Concatenate[Client, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[BlockingClient, P], R]:
    """`method` of the client, waited for."""

    @wraps(method)
    def call(client: BlockingClient, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return client._thread.run(method(client._client, *args, **kwargs))

    return call


class _Posted(NamedTuple):
    value: bytes | None
    key: bytes | None
    partition: int | None
    headers: Headers
    timestamp_ms: int | None
    on_delivery: DeliveryCallback | None
    size: int


class BlockingProducer(_Facade[Producer]):
    """See `Producer`. ``post`` is the way that never waits."""

    send = _waited(Producer.send)
    send_batch = _waited(Producer.send_batch)

    def __init__(self, thread: LoopThread, inner: Producer) -> None:
        super().__init__(thread, inner)
        self._posts: deque[_Posted] = deque()
        self._lock = threading.Lock()
        self._posted_bytes = 0
        self._unsettled = 0
        # Invariant: both cover what is in _posts and what was handed in from there and is not settled yet.
        self._pump: asyncio.Task[None] | None = None

    def post(
        self,
        value: bytes | None,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Headers = (),
        timestamp_ms: int | None = None,
        on_delivery: DeliveryCallback | None = None,
    ) -> None:
        """Hand in a record and return at once, whether the cluster is there or not.

        `on_delivery` is told the receipt, or the error that the record met, with its outcome. Raises Overloaded
        where `POSTED_BYTES_MAX` bytes wait: nothing is taken then.
        """
        if not self._open:
            raise RuntimeError("the producer is not open: use it inside `with`")
        size = len(value or b"") + len(key or b"") + RECORD_OVERHEAD_BYTES
        size += sum(len(name) + len(content) + HEADER_OVERHEAD_BYTES for name, content in headers)
        posted = _Posted(value, key, partition, headers, timestamp_ms, on_delivery, size)
        with self._lock:
            if self._posted_bytes + size > POSTED_BYTES_MAX:
                raise Overloaded(f"{self._posted_bytes} bytes wait for their delivery", field="value")
            self._posted_bytes += size
            self._unsettled += 1
            self._posts.append(posted)
            first = len(self._posts) == 1
        if first:
            self._thread.soon(self._start_pump)

    def flush(self) -> None:
        """As `Producer.flush`, and every delivery callback has been called."""
        self._thread.run(self._flush())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.flush()
        finally:
            super().__exit__(kind, error, trace)

    # -- on the client's thread

    def _start_pump(self) -> None:
        if self._pump is None or self._pump.done():
            self._pump = asyncio.create_task(self._hand_in(), name="raftmq-posts")

    async def _hand_in(self) -> None:
        """In order; waits for room in the producer's buffer."""
        while self._posts:
            posted = self._posts[0]
            try:
                receipt = await self._inner.enqueue(*posted[:5])
            except RaftmqError as error:
                self._settled(posted, error)
            except Exception as error:  # noqa: BLE001  a value that is no bytes, and the like: the records behind go on
                self._settled(posted, InvalidArgument(f"{error!r}", field="value"))
            else:
                receipt.add_done_callback(partial(self._delivered, posted))
            self._posts.popleft()

    def _delivered(self, posted: _Posted, receipt: asyncio.Future[RecordReceipt]) -> None:
        error = receipt.exception()
        assert error is None or isinstance(error, RaftmqError)
        self._settled(posted, receipt.result() if error is None else error)

    def _settled(self, posted: _Posted, end: RecordReceipt | RaftmqError) -> None:
        try:
            if posted.on_delivery is not None:
                posted.on_delivery(end)
        except Exception as error:  # noqa: BLE001  of the caller's own making, and no reason to stop for the others
            told = {"message": "a delivery callback failed", "exception": error}
            asyncio.get_running_loop().call_exception_handler(told)
        finally:
            with self._lock:
                self._posted_bytes -= posted.size
                self._unsettled -= 1

    async def _flush(self) -> None:
        while True:
            if self._pump is not None and not self._pump.done():
                await asyncio.wait({self._pump})
            await self._inner.flush()
            with self._lock:
                if not self._posts and not self._unsettled:
                    return
            # Callbacks of what has just been acknowledged come in the loop's next pass.
            await asyncio.sleep(0)


class BlockingConsumer(_Facade[Consumer]):
    """See `Consumer`: an iterator of records."""

    def __init__(self, thread: LoopThread, inner: Consumer) -> None:
        super().__init__(thread, inner)
        self._batches = inner.batches()
        self._records: Iterator[ConsumedRecord] = iter(())
        self._positions: dict[int, int] = {}

    @property
    def partitions(self) -> tuple[int, ...]:
        return self._inner.partitions

    def position(self, partition: int) -> int:
        """Offset of the next record that the iteration gives for `partition`. Raises UnknownPartition."""
        position = self._inner.position(partition)
        return self._positions.get(partition, position)

    def trimmed(self, partition: int) -> int:
        """See `Consumer.trimmed`."""
        return self._inner.trimmed(partition)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ConsumedRecord:
        record = next(self._records, None)
        while record is None:
            batch = self._next_batch()
            self._positions[batch.partition] = batch.records[0].offset
            self._records = iter(batch.records)
            record = next(self._records)
        self._positions[record.partition] = record.offset + 1
        return record

    def batches(self) -> Iterator[ConsumedBatch]:
        """The same records, a batch at a time: many times cheaper per record. Do not mix the two."""
        while True:
            try:
                batch = self._next_batch()
            except StopIteration:
                return
            self._positions[batch.partition] = batch.next_offset
            yield batch

    def _next_batch(self) -> ConsumedBatch:
        async def take() -> ConsumedBatch | None:
            return await anext(self._batches, None)

        batch = self._thread.run(take())
        if batch is None:
            raise StopIteration
        return batch


class BlockingGroupConsumer(_Facade[GroupConsumer]):
    """See `GroupConsumer`: an iterator of records, which does not end. A record is done once the next one is asked for.
    Callbacks are called on the client's thread."""

    commit = _waited(GroupConsumer.commit)

    @property
    def assignment(self) -> tuple[Partition, ...]:
        return self._inner.assignment

    def pause(self, *partitions: Partition) -> None:
        self._thread.soon(partial(self._inner.pause, *partitions))

    def resume(self, *partitions: Partition) -> None:
        self._thread.soon(partial(self._inner.resume, *partitions))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> ConsumedRecord:
        return self._thread.run(self._inner.__anext__())


class BlockingWorker(_Facade[QueueWorker]):
    """Takes messages of a queue group; see `QueueWorker`. Iterating it gives a `BlockingMessage` each."""

    def get(self, timeout_ms: int) -> BlockingMessage | None:
        """The next message, or None if none has come by then."""
        message = self._thread.run(self._inner.get(timeout_ms))
        return None if message is None else BlockingMessage(self._thread, message)

    def ack_and_publish(self, messages: Sequence[BlockingMessage], *args: Any, **kwargs: Any) -> AckReceipt:
        """See `QueueWorker.ack_and_publish`."""
        held = [message.inner for message in messages]
        return self._thread.run(self._inner.ack_and_publish(held, *args, **kwargs))

    def __iter__(self) -> Iterator[BlockingMessage]:
        async def take() -> QueueMessage | None:
            return await anext(self._inner, None)

        while (message := self._thread.run(take())) is not None:
            yield BlockingMessage(self._thread, message)


class BlockingClient:
    """A connection to a cluster, for a ``with`` block. Made by `connect`."""

    producer = _made(Client.producer, BlockingProducer)
    consumer = _made(Client.topic_consumer, BlockingConsumer)
    group_consumer = _made(Client.group_consumer, BlockingGroupConsumer)
    queue = _made(Client.queue, BlockingWorker)
    list_offsets = _asked(Client.list_offsets)
    send_once = _asked(Client.send_once)
    publish = _asked(Client.publish)
    publish_batch = _asked(Client.publish_batch)
    request = _asked(Client.request)
    reply = _asked(Client.reply)

    def __init__(self, client: Client) -> None:
        self._client = client
        self._thread = LoopThread()
        self.admin = client.admin
        """As of the asynchronous client: ``client.run(client.admin.create_topic("orders"))``."""
        self.cluster = client.cluster
        self.exchanges = client.exchanges
        self.groups = client.groups
        self.queues = client.queues

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        """Run a coroutine of the client, and wait for its result."""
        return self._thread.run(work)

    @property
    def cluster_id(self) -> str:
        return self._client.cluster_id

    def __enter__(self) -> Self:
        try:
            self._thread.run(self._client.__aenter__())
        except BaseException:
            self._thread.stop()
            raise
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections and end the thread. Producers and consumers must have been closed before."""
        try:
            self._thread.run(self._client.close())
        finally:
            self._thread.stop()


def _connected(method: Callable[P, Client]) -> Callable[P, BlockingClient]:
    @wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> BlockingClient:
        return BlockingClient(method(*args, **kwargs))

    return call


connect = _connected(connect_async)
"""As `raftmq.connect`, for a ``with`` block."""

__all__ = [
    "BlockingClient",
    "BlockingConsumer",
    "BlockingGroupConsumer",
    "BlockingMessage",
    "BlockingProducer",
    "BlockingWorker",
    "DeliveryCallback",
    "connect",
]
