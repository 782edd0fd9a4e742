"""The table of methods covers the descriptors exactly."""

from __future__ import annotations

import pkgutil
import re
from importlib import import_module

import pytest

import raftmq.v1
from raftmq.broker.dispatch import Entry, Method, StreamEntry, StreamMethod, build_table, full_name, services
from raftmq.broker.offsets import METHOD
from raftmq.errors import InvalidArgument, Outcome
from tests.broker.cluster import Node, refusal


def test_every_service_of_the_package_is_in_the_table() -> None:
    """A new .proto file with a service must not be forgotten."""
    declared = set[str]()
    for module in pkgutil.iter_modules(raftmq.v1.__path__):
        if module.name.endswith("_pb2"):
            descriptor = import_module(f"raftmq.v1.{module.name}").DESCRIPTOR
            declared |= {service.full_name for service in descriptor.services_by_name.values()}
    assert declared == {service.full_name for service in services()} != set()


async def test_every_method_has_a_row_with_its_own_classes(node: Node) -> None:
    seen = 0
    for service in services():
        for method in service.methods:
            if method.client_streaming:
                assert node.calls.streams[full_name(method)].request_class.DESCRIPTOR is method.input_type
            else:
                row = node.calls.methods[full_name(method)]
                assert row.request_class.DESCRIPTOR is method.input_type
                assert row.response_class.DESCRIPTOR is method.output_type
            seen += 1
    assert seen == len(node.calls.methods) + len(node.calls.streams) > 10
    assert [name.rpartition("/")[2] for name in sorted(node.calls.streams)] == ["ProduceStream", "Subscribe", "Work"]
    assert METHOD in node.calls.methods


def entries_of(node: Node) -> dict[str, Entry | StreamEntry]:
    rows: dict[str, Method | StreamMethod] = {**node.calls.methods, **node.calls.streams}
    return {
        f"{name.split('/')[1].rpartition('.')[2]}.{name.split('/')[2]}": row.entry for name, row in sorted(rows.items())
    }


@pytest.mark.parametrize("method", ["Broker.Fetch", "Broker.Subscribe"])
async def test_a_gap_or_a_stray_entry_stops_the_node(node: Node, method: str) -> None:
    entries = entries_of(node)
    table = build_table(entries)
    assert (table.methods.keys(), table.streams.keys()) == (node.calls.methods.keys(), node.calls.streams.keys())
    gap = {name: entry for name, entry in entries.items() if name != method}
    with pytest.raises(ValueError, match=re.escape(f"/raftmq.v1.{method.replace('.', '/')}")):
        build_table(gap)
    stray = {**entries, "Broker.Nothing": entries[method]}
    with pytest.raises(ValueError, match=r"Broker\.Nothing"):
        build_table(stray)


async def test_an_entry_of_the_other_kind_stops_the_node(node: Node) -> None:
    entries = entries_of(node)
    for one, other in [("Broker.Fetch", "Broker.Subscribe"), ("Broker.ProduceStream", "Broker.Produce")]:
        with pytest.raises(ValueError, match="streams differently"):
            build_table({**entries, one: entries[other]})


async def test_every_method_goes_through_the_one_interceptor(node: Node) -> None:
    """Of whatever kind: what is sent is no message, and the answer has the trailers that only the interceptor sets."""
    for name in [*node.calls.methods, *node.calls.streams]:
        if name in node.calls.streams:
            streaming = node.channel.stream_stream(name, request_serializer=None, response_deserializer=None)
            error = await refusal(streaming(iter([b"\xff"])).read())
        else:
            unary = node.channel.unary_unary(name, request_serializer=None, response_deserializer=None)
            error = await refusal(unary(b"\xff"))
        assert (type(error), error.outcome) == (InvalidArgument, Outcome.NOT_APPLIED), name
    assert {(name, "INVALID_ARGUMENT") for name in [*node.calls.methods, *node.calls.streams]} == set(
        node.server.counts.snapshot()
    )
