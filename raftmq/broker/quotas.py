"""Quotas of clients, as one node enforces them: token buckets that may go below zero.

    request ──> any debt? ── yes ──> QUOTA_EXCEEDED, with the time that paying it off takes
                  │ no
                  └──> taken: one request, its bytes ──> served ──> the answer's bytes are a debt for the next

Every bucket holds a second's worth at most. Since a debt is paid before anything else is taken, a request of any size
passes at some time, and the rate holds all the same. The quota is the cluster's; a node grants its share of it, one of
as many as there are nodes up, so that no node has to ask another. Who talks to one node only gets that node's share.

A call is counted at the node that was asked, not again where it is handed on to. Calls of Admin and Cluster are free:
nobody can lock out those who set quotas. While none is set, none of this runs.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

from raftmq.broker.cluster import ClusterView
from raftmq.errors import InvalidArgument, QuotaExceeded
from raftmq.metadata.quota import DEFAULT, ClientQuotaSet, is_client_id

CLIENT_ID_METADATA = "raftmq-client-id"
CLIENTS_MAX = 10_000
"""Clients whose buckets are kept; of more, those that were heard longest ago begin anew."""
PRODUCING = frozenset(
    {
        "/raftmq.v1.Broker/Produce",
        "/raftmq.v1.Broker/ProduceStream",
        "/raftmq.v1.Exchanges/Publish",
        "/raftmq.v1.Queue/AckAndPublish",
        "/raftmq.v1.Queue/Work",
    }
)
FETCHING = frozenset(
    {
        "/raftmq.v1.Broker/Fetch",
        "/raftmq.v1.Broker/Subscribe",
        "/raftmq.v1.Queue/Receive",
        "/raftmq.v1.Queue/Work",
    }
)
FREE = ("/raftmq.v1.Admin/", "/raftmq.v1.Cluster/")
"""What operators need is not held up, by quotas or by memory."""


class Bucket:
    """Tokens that come at a rate, up to a second's worth. Pure; times in seconds, by a clock that does not go back."""

    __slots__ = ("_at", "_tokens")

    def __init__(self, rate: float, now: float) -> None:
        self._tokens = max(1.0, rate)
        self._at = now

    def wait_s(self, rate: float, now: float) -> float:
        """How long until there is something in it; 0: there is now. `rate` in tokens a second, above 0."""
        self._tokens = min(max(1.0, rate), self._tokens + (now - self._at) * rate)
        self._at = now
        return 0.0 if self._tokens > 0 else max(0.001, -self._tokens / rate)

    def take(self, amount: float) -> None:
        """Whether there is so much or not."""
        self._tokens -= amount


class Quotas:
    """See the module docstring. ``now``: seconds, monotonic."""

    def __init__(self, cluster: ClusterView, now: Callable[[], float]) -> None:
        self.refused: Counter[str] = Counter()
        """Requests that were told QUOTA_EXCEEDED, by the quota's name."""
        self.delayed: Counter[str] = Counter()
        """Messages of streams that had to wait."""
        self._cluster = cluster
        self._now = now
        self._buckets: OrderedDict[str, dict[str, Bucket]] = OrderedDict()

    @property
    def active(self) -> bool:
        """There is any quota at all."""
        return bool(self._cluster.image.quotas)

    def admit(self, client: str, method: str, size: int) -> None:
        """Take a request of `size` bytes. Raises QuotaExceeded."""
        quota, wait_s = self._worst(client, method, _asked_of_request(method))
        if wait_s > 0:
            self.refused[quota] += 1
            raise QuotaExceeded(
                f"client {client} is beyond its {quota} on this node",
                retry_after_ms=int(wait_s * 1000) + 1,
                metadata={"client": client, "quota": quota},
            )
        self._take(client, method, size)

    def answered(self, client: str, method: str, size: int) -> None:
        """A request was answered with `size` bytes."""
        if method in FETCHING:
            self._charge(client, "fetch_bytes_per_s", size)

    async def until_admitted(self, client: str, method: str, size: int) -> None:
        """As ``admit``, but wait instead."""
        await self._until_paid(client, method, _asked_of_request(method))
        self._take(client, method, size)

    async def until_paid(self, client: str, method: str) -> None:
        """Return when `client` may be sent more of what `method` answers."""
        if method in FETCHING:
            await self._until_paid(client, method, ("fetch_bytes_per_s",))

    async def _until_paid(self, client: str, method: str, names: Sequence[str]) -> None:
        quota, wait_s = self._worst(client, method, names)
        if wait_s > 0:
            self.delayed[quota] += 1
        while wait_s > 0:
            await asyncio.sleep(min(wait_s, 1.0))  # quotas may have been raised meanwhile
            quota, wait_s = self._worst(client, method, names)

    async def paced(self, requests: AsyncIterator[bytes], client: str, method: str) -> AsyncIterator[bytes]:
        """The messages of a stream, as fast as `client` may send them."""
        async for data in requests:
            if self.active:
                await self.until_admitted(client, method, len(data))
            yield data

    def _take(self, client: str, method: str, size: int) -> None:
        if method.startswith(FREE):
            return
        self._charge(client, "requests_per_s", 1)
        if method in PRODUCING:
            self._charge(client, "produce_bytes_per_s", size)

    def _worst(self, client: str, method: str, names: Sequence[str]) -> tuple[str, float]:
        """(quota, seconds) of the one that takes longest to be paid off."""
        quota = self._quota_of(client)
        if quota is None or method.startswith(FREE):
            return "", 0.0
        now, share, buckets = self._now(), self._share(), self._buckets_of(client)
        worst = ("", 0.0)
        for name in names:
            rate = getattr(quota, name) * share
            if rate and name in buckets:
                wait_s = buckets[name].wait_s(rate, now)
                worst = (name, wait_s) if wait_s > worst[1] else worst
        return worst

    def _charge(self, client: str, name: str, amount: int) -> None:
        quota = self._quota_of(client)
        rate = 0.0 if quota is None else getattr(quota, name) * self._share()
        if not rate:
            return
        buckets = self._buckets_of(client)
        bucket = buckets.get(name)
        if bucket is None:
            bucket = buckets[name] = Bucket(rate, self._now())
        bucket.take(amount)

    def _quota_of(self, client: str) -> ClientQuotaSet | None:
        quotas = self._cluster.image.quotas
        return quotas.get(client) or quotas.get(DEFAULT)

    def _share(self) -> float:
        nodes = self._cluster.image.nodes.values()
        return 1 / max(1, sum(not node.fenced for node in nodes))

    def _buckets_of(self, client: str) -> dict[str, Bucket]:
        buckets = self._buckets.get(client)
        if buckets is None:
            buckets = self._buckets[client] = {}
            if len(self._buckets) > CLIENTS_MAX:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(client)
        return buckets


def client_of(metadata: Iterable[tuple[str, str | bytes]] | None, peer: str) -> str:
    """Who calls: the name in the call's metadata, else "@" and `peer`, as gRPC writes it, without its port.

    Raises InvalidArgument for a name that is none.
    """
    for name, value in metadata or ():
        if name == CLIENT_ID_METADATA:
            if not isinstance(value, str) or not is_client_id(value):
                raise InvalidArgument(
                    "a client id has 1 to 128 printable characters, no blanks", field=CLIENT_ID_METADATA
                )
            return value
    return f"@{peer.rpartition(':')[0] or peer}"


def _asked_of_request(method: str) -> tuple[str, ...]:
    """Verdicts of a worker do not wait until its messages are paid for: their leases would run out meanwhile."""
    if method in PRODUCING:
        return "requests_per_s", "produce_bytes_per_s"
    if method in FETCHING:
        return "requests_per_s", "fetch_bytes_per_s"
    return ("requests_per_s",)
