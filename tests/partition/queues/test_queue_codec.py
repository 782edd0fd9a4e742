"""Ops as bytes; sets of offsets against ordinary sets; nothing depends on the hash seed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftmq.ids import LeaseId, Offset, QueueId
from raftmq.internal.v1 import queues_pb2, storage_pb2
from raftmq.partition import commands
from raftmq.partition.queues.commands import (
    Cancel,
    Configure,
    Extend,
    Grant,
    Hold,
    Introduce,
    Pause,
    QueueCommand,
    QueueOp,
    Redrive,
    Remove,
    Resume,
    Routed,
    Seek,
    Settle,
    Special,
    Verdict,
)
from raftmq.partition.queues.offset_set import OffsetSet
from raftmq.partition.queues.settings import AtEnd, Backoff, Ordering, QueueRetention, QueueSettings
from raftmq.records.poison import PoisonEntry

GROUP = QueueId(5)
SECRET = bytes(range(16))
SETTINGS = QueueSettings(
    3, Ordering.KEY, 20, 4, AtEnd.DROP, Backoff(1, 150, 9, 10), False, 50, True, QueueRetention.ALL_GROUPS, 8, 6, 70, 2
)
OPS: list[QueueOp] = [
    Configure(GROUP, SETTINGS, Offset(9)),
    Remove(GROUP),
    Introduce(GROUP, Offset(3), Offset(5), (1, 2**64 - 1), (0, 7), (Special(Offset(4), 9, 10, 11),)),
    Introduce(GROUP, Offset(3), Offset(5)),
    Grant(GROUP, "worker", 100, SECRET, 30),
    Settle(GROUP, LeaseId(4), SECRET, Verdict.ACK, (3, 9), processed_keys=(b"a", b"")),
    Settle(GROUP, LeaseId(4), SECRET, Verdict.RETRY, (3,), 0, "why", "what"),
    Settle(GROUP, LeaseId(4), SECRET, Verdict.RETRY, (3,)),
    Extend(GROUP, LeaseId(4), SECRET, 50),
    Seek(GROUP, Offset(8)),
    Pause(GROUP),
    Resume(GROUP),
    Redrive(GROUP, (1, 2)),
    Routed(GROUP, (1, 2), True),
    Routed(GROUP, (3,), False),
    Cancel(GROUP, Offset(8)),
    Hold(Offset(8), b"record"),
]


def test_every_op_comes_back() -> None:
    body = commands.encode(QueueCommand(tuple(OPS)))
    assert commands.decode(body, commands.QUEUE_VERSION) == QueueCommand(tuple(OPS))


@pytest.mark.parametrize("version", [commands.VERSION, commands.QUEUE_VERSION, commands.PARKINGS_VERSION])
def test_parkings_are_named_in_a_version_of_their_own(version: int) -> None:
    """So that an older node says what it lacks, instead of marking another letter than the others do."""
    named = QueueCommand((Pause(GROUP), Routed(GROUP, (1, 2), True, (7, 9))))
    assert commands.version_of(named) == commands.PARKINGS_VERSION
    if version == commands.PARKINGS_VERSION:
        assert commands.decode(commands.encode(named), version) == named
    else:
        with pytest.raises(PoisonEntry):
            commands.decode(commands.encode(named), version)
    plain = commands.encode(QueueCommand((Routed(GROUP, (1, 2), True),)))
    if version != commands.QUEUE_VERSION:
        with pytest.raises(PoisonEntry):
            commands.decode(plain, version)


def test_shares_of_a_drain_rate_are_of_a_version_of_their_own() -> None:
    shared = QueueCommand((Configure(GROUP, QueueSettings(drain_per_s=10, drain_parts=3), Offset(0)),))
    assert commands.version_of(shared) == commands.SHARES_VERSION
    assert commands.decode(commands.encode(shared), commands.SHARES_VERSION) == shared
    for older in (commands.QUEUE_VERSION, commands.PARKINGS_VERSION):
        with pytest.raises(PoisonEntry):
            commands.decode(commands.encode(shared), older)


def test_the_bytes_are_frozen() -> None:
    body = (
        "52500a2208052a1e0a06776f726b65721064181e2210000102030405060708090a0b0c0d0e0f0a2a"
        "0805322608041210000102030405060708090a0b0c0d0e0f1803220103280032037768793a0477686174"
    )
    assert commands.encode(QueueCommand((OPS[4], OPS[6]))).hex() == body


def poisonous() -> list[queues_pb2.QueueOp]:
    op = queues_pb2.QueueOp
    return [
        op(),
        op(group=5),
        op(remove=queues_pb2.QueueRemove()),
        op(group=5, hold=queues_pb2.QueueHold()),
        op(group=5, configure=queues_pb2.QueueConfigure()),
        op(
            group=5,
            configure=queues_pb2.QueueConfigure(settings=queues_pb2.QueueSettings(version=1, lease_ms=1, at_end=9)),
        ),
        op(group=5, introduce=queues_pb2.QueueIntroduce(first=3, next=3)),
        op(group=5, introduce=queues_pb2.QueueIntroduce(first=3, next=5, keys=[1])),
        op(group=5, introduce=queues_pb2.QueueIntroduce(first=3, next=5, specials=[queues_pb2.QueueSpecial(offset=5)])),
        op(group=5, introduce=queues_pb2.QueueIntroduce(next=5, specials=[queues_pb2.QueueSpecial(priority=10)])),
        op(group=5, introduce=queues_pb2.QueueIntroduce(next=5, specials=[queues_pb2.QueueSpecial(offset=1)] * 2)),
        op(group=5, grant=queues_pb2.QueueGrant(max=1, secret=b"short")),
        op(group=5, grant=queues_pb2.QueueGrant(max=0, secret=SECRET)),
        op(group=5, grant=queues_pb2.QueueGrant(max=10_001, secret=SECRET)),
        op(group=5, settle=queues_pb2.QueueSettle(offsets=[1])),
        op(group=5, routed=queues_pb2.QueueRouted(offsets=[1, 2], parked_ticks=[7])),
        op(group=5, routed=queues_pb2.QueueRouted(parked_ticks=[7])),
        op(group=5, settle=queues_pb2.QueueSettle(verdict=1, offsets=[1], processed_keys=[b"a", b"b"])),
        op(group=5, settle=queues_pb2.QueueSettle(verdict=4, offsets=[1], error="x" * 5000)),
    ]


@pytest.mark.parametrize("op", poisonous(), ids=str)
def test_what_no_honest_leader_proposes_is_poison(op: queues_pb2.QueueOp) -> None:
    body = storage_pb2.PartitionCommand(queue=queues_pb2.QueueCommand(ops=[op])).SerializeToString()
    for version in (commands.QUEUE_VERSION, commands.PARKINGS_VERSION):
        with pytest.raises(PoisonEntry):
            commands.decode(body, version)


def test_queues_have_a_version_of_their_own() -> None:
    body = commands.encode(QueueCommand((Pause(GROUP),)))
    with pytest.raises(PoisonEntry):
        commands.decode(body, commands.VERSION)


OFFSETS = st.integers(0, 9000)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), OFFSETS, OFFSETS),
        st.tuples(st.just("discard"), OFFSETS, OFFSETS),
        st.tuples(st.just("add_range"), OFFSETS, st.integers(0, 9000)),
        st.tuples(st.just("discard_range"), OFFSETS, st.integers(0, 9000)),
        st.tuples(st.just("take"), st.integers(1, 5000), OFFSETS),
        st.tuples(st.just("discard_sorted"), OFFSETS, st.integers(1, 70)),
    ),
    max_size=12,
)


@given(steps=STEPS)
@settings(max_examples=100, deadline=None)
def test_a_set_of_offsets_is_a_set(steps: list[tuple[str, int, int]]) -> None:
    tried, model = OffsetSet(), set[int]()
    for what, one, other in steps:
        span = set(range(one, one + other))
        match what:
            case "add":
                tried.add(one)
                model.add(one)
            case "discard":
                assert tried.discard(one) == (one in model)
                model.discard(one)
            case "add_range":
                tried.add_range(one, one + other)
                model |= span
            case "discard_range":
                assert tried.discard_range(one, one + other) == len(model & span)
                model -= span
            case "take":
                lowest = sorted(model)[:one]
                assert tried.take_lowest(one).tolist() == lowest
                model -= set(lowest)
            case "discard_sorted":
                strewn = list(range(one, one + 9000, other))
                assert tried.discard_sorted(strewn) == len(model & set(strewn))
                model -= set(strewn)
        assert len(tried) == len(model)
    assert list(tried) == sorted(model)
    assert tried.lowest() == min(model, default=None)


SCRIPT = """
from raftmq.ids import Offset
from raftmq.partition.queues.commands import Special, Verdict
from raftmq.partition.queues.settings import Ordering, QueueSettings
from tests.partition.queues.build import Partition
partition = Partition(QueueSettings(ordering=Ordering.KEY, is_fair=True, attempts_max=2, lease_ms=50))
partition.publish(400)
hashes = tuple(at * 0x9E3779B97F4A7C15 % 2**63 % 37 for at in range(400))
specials = [Special(Offset(at), at % 10) for at in range(0, 400, 3)]
partition.introduce(0, 400, keys=hashes, lanes=hashes, specials=specials)
for turn in range(60):
    granted = partition.grant(7, worker=f"worker {turn % 5}", elapsed=turn)
    if granted.offsets:
        keys = [b"%d" % at for at in granted.offsets]
        partition.ack(granted.lease, *granted.offsets[::2], processed_keys=keys[::2])
        partition.settle(granted.lease, list(Verdict)[turn % 4], *granted.offsets[1::2])
print([partition.machine.take_rows(), partition.machine.all_rows()])
"""


def test_the_hash_seed_has_no_say() -> None:
    root = Path(__file__).parents[3]
    outputs = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
            capture_output=True, text=True, check=True, cwd=root,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(outputs) == 1
    assert len(outputs.pop()) > 10_000
