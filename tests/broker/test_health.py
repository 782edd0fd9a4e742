"""``grpc.health.v1`` and reflection on the client port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from raftmq.broker import ClientServer
from raftmq.broker.dispatch import services
from tests.broker.cluster import MAX_MESSAGE_BYTES, Node

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
END = aio.EOF  # type: ignore[attr-defined]  # the stubs do not know it
SERVICES = ["", *(service.full_name for service in services())]


def asked(service: str) -> health_pb2.HealthCheckRequest:
    return health_pb2.HealthCheckRequest(service=service)


@pytest.fixture
def health(node: Node) -> Any:
    return health_pb2_grpc.HealthStub(node.channel)


@pytest.mark.parametrize("service", SERVICES)
async def test_every_service_is_served_until_the_node_leaves(node: Node, health: Any, service: str) -> None:
    assert (await health.Check(asked(service))).status == SERVING
    node.server.leave()
    node.server.leave()
    assert (await health.Check(asked(service))).status == NOT_SERVING


async def test_a_service_that_is_not_here_is_not_found(health: Any) -> None:
    with pytest.raises(aio.AioRpcError) as refused:
        await health.Check(asked("raftmq.v1.Nothing"))
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_watcher_sees_the_node_leave_and_its_stream_ends_with_the_listener(node: Node, health: Any) -> None:
    watched = health.Watch(asked("raftmq.v1.Broker"))
    assert (await watched.read()).status == SERVING
    node.server.leave()
    assert (await watched.read()).status == NOT_SERVING
    # Much longer than any test may take: the watcher must not use it up.
    await node.server.stop(10_000)
    assert await watched.read() is END


async def test_a_watcher_of_a_stranger_waits(node: Node, health: Any) -> None:
    watched = health.Watch(asked("raftmq.v1.Nothing"))
    assert (await watched.read()).status == SERVICE_UNKNOWN
    await node.server.stop(10_000)
    assert await watched.read() is END


async def test_who_begins_to_watch_while_the_node_leaves_is_told_at_once(node: Node, health: Any) -> None:
    node.server.leave()
    assert (await health.Watch(asked("")).read()).status == NOT_SERVING


async def test_watchers_that_read_nothing_hold_nobody_up(node: Node, health: Any) -> None:
    watchers = [health.Watch(asked(service)) for service in SERVICES for _ in range(10)]
    await asyncio.gather(*(watcher.initial_metadata() for watcher in watchers))
    node.server.leave()
    assert (await health.Check(asked(""))).status == NOT_SERVING
    await node.server.stop(10_000)


# -- reflection ----------------------------------------------------------------------------------------------------


async def listed(channel: aio.Channel) -> list[str]:
    """The services that a listener tells of."""
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)

    async def question() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")

    async for answer in stub.ServerReflectionInfo(question()):
        return [service.name for service in answer.list_services_response.service]
    return []


async def test_nothing_is_told_unless_the_configuration_says_so(node: Node) -> None:
    with pytest.raises(aio.AioRpcError) as refused:
        await listed(node.channel)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_all_services_are_told_of_where_it_does(node: Node) -> None:
    server = ClientServer("127.0.0.1:0", node.calls, max_message_bytes=MAX_MESSAGE_BYTES, reflection=True)
    port = await server.start()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        names = await listed(channel)
    await server.stop(0)
    own = {service.full_name for service in services()}
    assert set(names) == own | {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
