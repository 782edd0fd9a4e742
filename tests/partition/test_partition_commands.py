"""Commands as bytes; what is not understood is never skipped."""

import pytest

from raftmq.ids import LogIndex, Offset
from raftmq.internal.v1 import storage_pb2
from raftmq.partition.commands import (
    VERSION,
    PartitionCommand,
    TickCommand,
    TrimCommand,
    WindowCommand,
    decode,
    encode,
)
from raftmq.partition.message_ids import Window
from raftmq.records.poison import PoisonEntry


@pytest.mark.parametrize(
    ("command", "body"),
    [
        (TickCommand(), "0a00"),
        (TrimCommand(Offset(0)), "1200"),
        (TrimCommand(Offset(300)), "120308ac02"),
        (TrimCommand(Offset(300), LogIndex(7)), "120508ac021007"),
        (WindowCommand(Window(5, 300)), "1a05080510ac02"),
    ],
)
def test_the_bytes_are_frozen(command: PartitionCommand, body: str) -> None:
    assert encode(command).hex() == body
    assert decode(bytes.fromhex(body), 1) == command


@pytest.mark.parametrize("version", [0, VERSION + 1, 65535])
def test_another_version_is_poison(version: int) -> None:
    with pytest.raises(PoisonEntry, match=f"version {version}"):
        decode(encode(TickCommand()), version)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        encode(WindowCommand(Window(0, 1))),
        encode(WindowCommand(Window(1, 0))),
        b"\x9a\x06\x01x",  # a command of a later version
        encode(TickCommand()) + b"\x9a\x06\x01x",
        storage_pb2.PartitionCommand(trim=storage_pb2.TrimCommand.FromString(b"\x18\x01")).SerializeToString(),
    ],
)
def test_what_is_not_understood_is_poison(body: bytes) -> None:
    with pytest.raises(PoisonEntry):
        decode(body, VERSION)
