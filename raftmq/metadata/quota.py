"""How much clients may ask of the cluster: events, image and decisions. Pure.

Whoever names itself has a quota of its own, or the default, which is that of the empty name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from raftmq.errors import InvalidArgument, NotFound, PreconditionFailed
from raftmq.internal.v1 import storage_pb2

if TYPE_CHECKING:
    from raftmq.metadata.image import MetadataImage

DEFAULT = ""
QUOTAS_MAX = 10_000
RATE_MAX = 2**53
"""So that a bucket, which counts in floating point, is exact."""
_CLIENT_ID = re.compile(r"[!-~]{1,128}")


@dataclass(frozen=True, slots=True)
class ClientQuotaSet:
    """What `client_id` may do in a second, over all nodes. 0: without limit."""

    client_id: str
    """Empty: each client that has no quota of its own."""
    produce_bytes_per_s: int = 0
    fetch_bytes_per_s: int = 0
    requests_per_s: int = 0


@dataclass(frozen=True, slots=True)
class ClientQuotaDeleted:
    client_id: str


QuotaEvent = ClientQuotaSet | ClientQuotaDeleted
Quotas = Mapping[str, ClientQuotaSet]


def is_client_id(text: str) -> bool:
    """1 to 128 printable characters of ASCII, without blanks: it goes into logs and commands."""
    return _CLIENT_ID.fullmatch(text) is not None


def replay_quota(quotas: Quotas, event: QuotaEvent) -> Quotas:
    """The quotas after `event`. To delete what is not there changes nothing."""
    others = {name: quota for name, quota in quotas.items() if name != event.client_id}
    return others if isinstance(event, ClientQuotaDeleted) else {**others, event.client_id: event}


def set_quota(image: MetadataImage, wish: ClientQuotaSet) -> Sequence[QuotaEvent]:
    """Raises InvalidArgument, naming the field of ``raftmq.v1.SetQuotaRequest``, or PreconditionFailed: too many."""
    if wish.client_id != DEFAULT and not is_client_id(wish.client_id):
        raise InvalidArgument("a client id has 1 to 128 printable characters, no blanks", field="quota.client_id")
    for name in ("produce_bytes_per_s", "fetch_bytes_per_s", "requests_per_s"):
        if not 0 <= getattr(wish, name) <= RATE_MAX:
            raise InvalidArgument(f"{getattr(wish, name)} is not in 0 to {RATE_MAX}", field=f"quota.{name}")
    if wish.client_id not in image.quotas and len(image.quotas) >= QUOTAS_MAX:
        raise PreconditionFailed(f"there are {QUOTAS_MAX} quotas: delete some first", field="quota.client_id")
    return [] if image.quotas.get(wish.client_id) == wish else [wish]


def delete_quota(image: MetadataImage, client_id: str) -> Sequence[QuotaEvent]:
    """Raises NotFound."""
    if client_id not in image.quotas:
        raise NotFound(f"there is no quota of {client_id[:128]!r}", field="client_id")
    return [ClientQuotaDeleted(client_id)]


def quota_to_proto(event: QuotaEvent) -> storage_pb2.MetadataEvent:
    if isinstance(event, ClientQuotaDeleted):
        deleted = storage_pb2.ClientQuotaDeleted(client_id=event.client_id)
        return storage_pb2.MetadataEvent(client_quota_deleted=deleted)
    changed = storage_pb2.ClientQuotaSet(
        client_id=event.client_id,
        produce_bytes_per_s=event.produce_bytes_per_s,
        fetch_bytes_per_s=event.fetch_bytes_per_s,
        requests_per_s=event.requests_per_s,
    )
    return storage_pb2.MetadataEvent(client_quota_set=changed)


def quota_from_proto(message: storage_pb2.MetadataEvent) -> QuotaEvent:
    if message.HasField("client_quota_deleted"):
        return ClientQuotaDeleted(message.client_quota_deleted.client_id)
    told = message.client_quota_set
    return ClientQuotaSet(told.client_id, told.produce_bytes_per_s, told.fetch_bytes_per_s, told.requests_per_s)
