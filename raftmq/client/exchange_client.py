"""Publishing to exchanges, requests and replies: what `Client` has of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import uuid4

from raftmq.client.exchange_types import Published
from raftmq.client.exchanges import Exchanges
from raftmq.client.once import send_once
from raftmq.client.publishing import publish, published_record, raise_failure
from raftmq.client.replies import Requester, reply_record
from raftmq.client.router import Router
from raftmq.client.types import Acks, BatchReceipt, ConsumedRecord, Headers, NewRecord


class ExchangeClient:
    """Part of `Client`."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self.exchanges = Exchanges(router)
        """Exchanges and bindings."""

    async def publish(
        self,
        exchange: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        routing_key: str = "",
        headers: Headers = (),
        mandatory: bool = False,
        acks: Acks = Acks.ALL,
        message_id: str = "",
        raise_errors: bool = True,
        timeout_ms: int = 30_000,
    ) -> Published:
        """Append a record to every topic that `exchange` leads to; see `publish_batch`.

        It is routed by `headers`, and keeps them; ``raftmq-routing-key`` tells its consumers the routing key.
        """
        return await self.publish_batch(
            exchange,
            [published_record(value, key, routing_key, headers)],
            routing_key=routing_key,
            headers=headers,
            mandatory=mandatory,
            acks=acks,
            message_id=message_id,
            raise_errors=raise_errors,
            timeout_ms=timeout_ms,
        )

    async def publish_batch(
        self,
        exchange: str,
        records: Sequence[NewRecord],
        *,
        routing_key: str = "",
        headers: Headers | Mapping[str, bytes] = (),
        mandatory: bool = False,
        acks: Acks = Acks.ALL,
        message_id: str = "",
        raise_errors: bool = True,
        timeout_ms: int = 30_000,
    ) -> Published:
        """Append the same records to every topic that `exchange` leads to, and tell what became of each.

        Not all or nothing: each topic takes the records or refuses them by itself. Until `timeout_ms` is over this
        tries again for those that may still take them, under one message id, so that none gets them twice; called
        again with the same `message_id`, it goes on where it stopped. At most 10,000 records.

        routing_key, headers: what exchanges look at. `headers` are not added to the records.
        mandatory: raise Unroutable where nothing fits, which otherwise is a result without topics.
        raise_errors: raise the first error where any topic failed, with ``failed`` and ``appended`` in its metadata;
        otherwise look at the result's ``failed``.

        Raises UnknownExchange, InvalidArgument naming the field, and the last error where no node answered.
        """
        published = await publish(
            self._router,
            exchange,
            records,
            routing_key=routing_key,
            headers=headers,
            mandatory=mandatory,
            acks=acks,
            message_id=message_id,
            min_version=self.exchanges.version,
            timeout_ms=timeout_ms,
        )
        if raise_errors:
            raise_failure(published)
        return published

    def requester(self, reply_to: str) -> Requester:
        """What sends requests and awaits their replies in the topic `reply_to`; see `Requester.request`."""
        return Requester(reply_to, self._router, self.exchanges)

    async def request(
        self,
        value: bytes | None,
        *,
        reply_to: str,
        topic: str = "",
        exchange: str = "",
        routing_key: str = "",
        key: bytes | None = None,
        headers: Headers = (),
        timeout_ms: int = 30_000,
    ) -> ConsumedRecord:
        """One request, and the reply to it: see `Requester.request`. Whoever has more to ask opens a `requester`."""
        async with self.requester(reply_to) as requester:
            return await requester.request(
                value,
                topic=topic,
                exchange=exchange,
                routing_key=routing_key,
                key=key,
                headers=headers,
                timeout_ms=timeout_ms,
            )

    async def reply(
        self, request: ConsumedRecord, value: bytes | None, *, headers: Headers = (), timeout_ms: int = 30_000
    ) -> BatchReceipt:
        """Answer a consumed record, in the topic that its header ``raftmq-reply-to`` names.

        Raises InvalidArgument where it has none, and what `Client.send_once` raises.
        """
        topic, record = reply_record(request, value, headers)
        [receipt] = await send_once(
            self._router, topic, [record], uuid4().hex, partition=None, acks=Acks.ALL, timeout_ms=timeout_ms
        )
        return receipt
