"""The table of methods covers the descriptors exactly."""

from __future__ import annotations

import pkgutil
from importlib import import_module

import pytest

import raftmq.v1
from raftmq.broker.dispatch import Entry, build_table, full_name, services
from raftmq.broker.offsets import METHOD
from tests.broker.cluster import Node


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
            row = node.calls.methods[full_name(method)]
            assert row.request_class.DESCRIPTOR is method.input_type
            assert row.response_class.DESCRIPTOR is method.output_type
            seen += 1
    assert seen == len(node.calls.methods) > 10
    assert METHOD in node.calls.methods


async def test_a_gap_or_a_stray_entry_stops_the_node(node: Node) -> None:
    entries = {
        f"{name.split('/')[1].rpartition('.')[2]}.{name.split('/')[2]}": row.entry
        for name, row in node.calls.methods.items()
    }
    assert build_table(entries).keys() == node.calls.methods.keys()
    gap = {name: entry for name, entry in entries.items() if name != "Broker.Fetch"}
    with pytest.raises(ValueError, match=r"/raftmq\.v1\.Broker/Fetch"):
        build_table(gap)
    stray: dict[str, Entry] = {**entries, "Broker.Nothing": entries["Broker.Fetch"]}
    with pytest.raises(ValueError, match=r"Broker\.Nothing"):
        build_table(stray)
