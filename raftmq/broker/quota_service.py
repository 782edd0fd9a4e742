"""raftmq.v1.Admin: quotas of clients. Decided by the controller's leader, read from any node's picture."""

from __future__ import annotations

from raftmq.broker.deadlines import CallContext
from raftmq.broker.dispatch import Entry, Target
from raftmq.broker.view import View
from raftmq.errors import InvalidArgument
from raftmq.ids import CONTROLLER_GROUP
from raftmq.metadata.quota import ClientQuotaSet, delete_quota, set_quota
from raftmq.v1 import admin_pb2

TIMEOUT_MS = 10_000


class QuotaService:
    """The methods of ``raftmq.v1.Admin`` that are about quotas."""

    def __init__(self, view: View) -> None:
        self._view = view

    def entries(self) -> dict[str, Entry]:
        """For the table of methods."""
        return {
            "Admin.SetQuota": Entry(self.set_quota, reads=False, target=self._set_target),
            "Admin.DeleteQuota": Entry(self.delete_quota, reads=False, target=self._delete_target),
            "Admin.ListQuotas": Entry(self.list_quotas, reads=True),
        }

    @staticmethod
    def _set_target(request: admin_pb2.SetQuotaRequest) -> Target:
        if not request.HasField("quota"):
            raise InvalidArgument("is required", field="quota")
        return Target(CONTROLLER_GROUP, TIMEOUT_MS)

    @staticmethod
    def _delete_target(_request: admin_pb2.DeleteQuotaRequest) -> Target:
        return Target(CONTROLLER_GROUP, TIMEOUT_MS)

    async def set_quota(self, request: admin_pb2.SetQuotaRequest, context: CallContext) -> admin_pb2.SetQuotaResponse:
        asked = request.quota
        wish = ClientQuotaSet(asked.client_id, asked.produce_bytes_per_s, asked.fetch_bytes_per_s, asked.requests_per_s)
        await self._view.cluster.decide(lambda image: set_quota(image, wish), context.within(TIMEOUT_MS))
        return admin_pb2.SetQuotaResponse(header=self._view.controller_header())

    async def delete_quota(
        self, request: admin_pb2.DeleteQuotaRequest, context: CallContext
    ) -> admin_pb2.DeleteQuotaResponse:
        client_id = request.client_id
        await self._view.cluster.decide(lambda image: delete_quota(image, client_id), context.within(TIMEOUT_MS))
        return admin_pb2.DeleteQuotaResponse(header=self._view.controller_header())

    async def list_quotas(
        self, _request: admin_pb2.ListQuotasRequest, context: CallContext
    ) -> admin_pb2.ListQuotasResponse:
        await self._view.until_replayed(context)
        return admin_pb2.ListQuotasResponse(
            header=self._view.controller_header(),
            quotas=[
                admin_pb2.Quota(
                    client_id=quota.client_id,
                    produce_bytes_per_s=quota.produce_bytes_per_s,
                    fetch_bytes_per_s=quota.fetch_bytes_per_s,
                    requests_per_s=quota.requests_per_s,
                )
                for _, quota in sorted(self._view.cluster.image.quotas.items())
            ],
        )
