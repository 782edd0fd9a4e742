"""Sending under a message id: whatever comes back, it is tried again, and appended once."""

from __future__ import annotations

import grpc
import pytest

import raftmq
from raftmq import errors
from raftmq.client import Client
from raftmq.errors import Outcome
from tests.client.fake_broker import FakeCluster, Fault

RECORDS = [raftmq.NewRecord(b"a"), raftmq.NewRecord(b"b")]


async def test_a_lost_answer_is_asked_for_again(cluster: FakeCluster, client: Client) -> None:
    cluster.create("t", 1)
    faults = (Fault(lose_answer=True), Fault(refuse=errors.NoLeader("none")), Fault(bare=grpc.StatusCode.UNAVAILABLE))
    cluster.script("Produce", *faults)
    [receipt] = await client.send_once("t", RECORDS, message_id="m")
    assert (receipt.duplicate, receipt.base_offset, receipt.count, receipt.attempts) == (True, 0, 2, 4)
    [again] = await client.send_once("t", RECORDS, message_id="m", acks=raftmq.Acks.QUORUM)
    assert (again.duplicate, again.attempts) == (True, 1)
    assert cluster.partition("t", 0).values() == [b"a", b"b"]


async def test_what_cannot_pass_is_raised_at_once(cluster: FakeCluster, client: Client) -> None:
    cluster.create("t", 1)
    cluster.script("Produce", Fault(refuse=errors.InvalidArgument("another batch", field="message_id")))
    with pytest.raises(errors.InvalidArgument) as refused:
        await client.send_once("t", RECORDS, message_id="m")
    assert (refused.value.field, refused.value.outcome) == ("message_id", Outcome.NOT_APPLIED)
    with pytest.raises(errors.InvalidArgument) as refused:
        await client.send_once("t", RECORDS, message_id="")
    assert refused.value.field == "message_id"
    assert cluster.count("Produce") == 1


async def test_an_unknown_outcome_is_not_forgotten(cluster: FakeCluster, client: Client) -> None:
    """The second attempt was surely refused; the first may have been stored all the same."""
    cluster.create("t", 1)
    cluster.script("Produce", Fault(lose_answer=True), Fault(refuse=errors.MessageTooLarge("since a moment ago")))
    with pytest.raises(errors.MessageTooLarge) as refused:
        await client.send_once("t", RECORDS, message_id="m")
    assert refused.value.outcome is Outcome.UNKNOWN
