"""Exchanges from a client: what is published is tried again until every topic has it, and no topic has it twice."""

from __future__ import annotations

import asyncio

import pytest

import raftmq
from raftmq import errors
from raftmq.client import CORRELATION_ID, REPLY_TO, Client
from raftmq.client.replies import header
from raftmq.errors import Outcome
from raftmq.records.batch import decode_records
from tests.client.fake_broker import FakeCluster, Fault
from tests.clock import LoopClock


async def routes(cluster: FakeCluster, client: Client) -> None:
    """ "events" leads to "a" and "b" by ``x.#``, and to "b" alone by ``y``."""
    for topic in "ab":
        cluster.create(topic)
    await client.exchanges.declare("events", "topic")
    await client.exchanges.bind("events", topic="a", routing_key="x.#")
    await client.exchanges.bind("events", topic="b", routing_key="#")


def values(cluster: FakeCluster) -> tuple[list[bytes], list[bytes]]:
    return cluster.partition("a", 0).values(), cluster.partition("b", 0).values()


async def test_declared_bound_listed_traced_and_deleted(cluster: FakeCluster, client: Client) -> None:
    cluster.create("a")
    exchanges = client.exchanges
    await exchanges.declare("spare", "headers")
    declared = await exchanges.declare("in", "direct", alternate="spare")
    assert (declared.name, declared.kind, declared.alternate, declared.bindings) == ("in", "direct", "spare", ())
    bound = await exchanges.bind("spare", topic="a", headers={"z": b"1", "y": b""}, match="any")
    assert bound.bindings[0].headers == (("y", b""), ("z", b"1"))
    assert (bound.bindings[0].topic, bound.bindings[0].match) == ("a", "any")
    await exchanges.bind("in", to_exchange="in", routing_key="k")
    assert [one.name for one in await exchanges.list()] == ["in", "spare"]
    route = await exchanges.trace("in", routing_key="other", headers=[("z", b"1")])
    assert (route.topics, [(step.exchange, step.alternate) for step in route.steps]) == (
        ("a",), [("in", "spare"), ("spare", "")],
    )  # fmt: skip
    with pytest.raises(errors.PreconditionFailed):
        await exchanges.delete("spare")
    await exchanges.unbind("in", to_exchange="in", routing_key="k")
    with pytest.raises(errors.UnknownBinding):
        await exchanges.unbind("in", to_exchange="in", routing_key="k")
    await exchanges.delete("spare", force=True)
    assert [(one.name, one.alternate) for one in await exchanges.list()] == [("in", "")]


@pytest.mark.parametrize(
    ("arguments", "field"),
    [({}, "topic"), ({"topic": "a", "to_exchange": "b"}, "topic"), ({"topic": "a", "match": "some"}, "match")],
)
async def test_what_is_wrong_is_told_before_anybody_is_asked(
    cluster: FakeCluster, client: Client, arguments: dict[str, str], field: str
) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        await client.exchanges.bind("events", **arguments)  # type: ignore[arg-type]
    assert caught.value.field == field
    with pytest.raises(errors.InvalidArgument):
        await client.exchanges.declare("events", "queue")  # type: ignore[arg-type]
    assert cluster.count("Bind") + cluster.count("DeclareExchange") == 0


async def test_a_publish_tells_of_each_topic(cluster: FakeCluster, client: Client) -> None:
    await routes(cluster, client)
    published = await client.publish("events", b"v", routing_key="x.1", headers=[("h", b"1")])
    assert [(one.topic, one.error, one.receipts[0].base_offset) for one in published.topics] == [
        ("a", None, 0), ("b", None, 0),
    ]  # fmt: skip
    assert (published.failed, published.routed) == ((), True)
    [record] = decode_records((stored := cluster.partition("a", 0).batches[0]).header, stored.records)
    assert [(one.name, one.value) for one in record.headers] == [("h", b"1"), ("raftmq-routing-key", b"x.1")]
    assert stored.header.message_id == published.message_id != ""


async def test_what_some_topics_refuse_is_completed_and_nothing_is_there_twice(
    cluster: FakeCluster, client: Client
) -> None:
    await routes(cluster, client)
    cluster.exchanges.refusals["b"] = [errors.NoLeader("an election"), errors.NotEnoughReplicas("one of two")]
    cluster.script("Publish", Fault(lose_answer=True))
    published = await client.publish("events", b"v", routing_key="x")
    assert values(cluster) == ([b"v"], [b"v"])
    assert cluster.count("Publish") >= 3
    assert [one.receipts[0].duplicate for one in published.topics] == [True, False]


async def test_what_a_topic_refuses_for_good_is_raised_and_says_who_has_it(
    cluster: FakeCluster, client: Client
) -> None:
    await routes(cluster, client)
    too_large = [errors.MessageTooLarge("1 MiB") for _ in range(2)]
    cluster.exchanges.refusals["b"] = list(too_large)
    with pytest.raises(errors.MessageTooLarge) as caught:
        await client.publish("events", b"v", routing_key="x", message_id="m")
    assert caught.value.outcome is Outcome.UNKNOWN
    told = caught.value.metadata
    assert (told["failed"], told["appended"], told["message_id"]) == ("b", "a", "m")
    published = await client.publish("events", b"v", routing_key="x", message_id="m", raise_errors=False)
    assert [one.topic for one in published.failed] == ["b"]
    await client.publish("events", b"v", routing_key="x", message_id="m")
    assert values(cluster) == ([b"v"], [b"v"])


async def test_the_time_is_over_and_the_topics_that_have_it_are_told(
    cluster: FakeCluster, client: Client, clock: LoopClock
) -> None:
    await routes(cluster, client)
    cluster.exchanges.refusals["b"] = [errors.NoLeader("an election") for _ in range(100)]
    cluster.script("Publish", None, None, Fault(first=lambda: clock.advance(60)))
    published = await client.publish("events", b"v", routing_key="x", raise_errors=False, timeout_ms=60_000)
    assert [(one.topic, type(one.error)) for one in published.topics] == [("a", type(None)), ("b", errors.NoLeader)]
    assert values(cluster) == ([b"v"], [])


async def test_a_refusal_does_not_hide_that_an_attempt_before_it_may_have_got_through(
    cluster: FakeCluster, client: Client, clock: LoopClock
) -> None:
    await routes(cluster, client)

    def no_leader_from_here_on() -> None:
        cluster.exchanges.refusals["b"] = [errors.NoLeader("an election") for _ in range(100)]

    cluster.script(
        "Publish",
        Fault(lose_answer=True),
        Fault(first=no_leader_from_here_on),
        Fault(first=lambda: clock.advance(60)),
    )
    with pytest.raises(errors.NoLeader) as caught:
        await client.publish("events", b"v", routing_key="y", timeout_ms=60_000)
    assert cluster.partition("b", 0).values() == [b"v"]
    assert caught.value.outcome is Outcome.UNKNOWN


async def test_a_refusal_does_not_hide_that_an_attempt_after_it_may_have_got_through(
    cluster: FakeCluster, client: Client, clock: LoopClock
) -> None:
    await routes(cluster, client)
    cluster.exchanges.refusals["b"] = [errors.NoLeader("an election") for _ in range(2)]

    def over() -> None:
        cluster.exchanges.refusals["b"] = []
        clock.advance(60)

    cluster.script("Publish", None, None, Fault(first=over, lose_answer=True))
    with pytest.raises(errors.NoLeader) as caught:
        await client.publish("events", b"v", routing_key="y", timeout_ms=60_000)
    assert cluster.partition("b", 0).values() == [b"v"]
    assert caught.value.outcome is Outcome.UNKNOWN


async def test_the_unroutable(cluster: FakeCluster, client: Client) -> None:
    await routes(cluster, client)
    await client.exchanges.declare("nowhere", "fanout")
    assert not (await client.publish("nowhere", b"v")).routed
    with pytest.raises(errors.Unroutable) as caught:
        await client.publish("nowhere", b"v", mandatory=True)
    assert caught.value.outcome is Outcome.NOT_APPLIED
    with pytest.raises(errors.UnknownExchange):
        await client.publish("nope", b"v")


async def test_whoever_declared_it_publishes_by_it(cluster: FakeCluster, client: Client) -> None:
    """Whichever node is asked next: those that do not know of it yet say so, and the client asks again."""
    await routes(cluster, client)
    version = client.exchanges.version
    assert version == cluster.exchanges.image.version > 0
    cluster.script("Publish", Fault(refuse=errors.NotReady("behind", field="min_metadata_version")))
    assert (await client.publish("events", b"v", routing_key="x")).routed
    await client.exchanges.declare("events", "topic")
    assert client.exchanges.version == version


# -- requests and replies ----------------------------------------------------------------------------------------------


async def answer(client: Client, count: int) -> None:
    async with client.consumer("quotes", start="earliest") as requests:
        for _ in range(count):
            request = await anext(requests)
            await client.reply(request, b"re: " + (request.value or b""), headers=[("by", b"me")])


async def test_replies_find_their_requests(cluster: FakeCluster, client: Client) -> None:
    for topic in ("quotes", "replies"):
        cluster.create(topic)
    async with client.producer("replies") as producer:
        await producer.send(b"of before")
    async with client.requester("replies") as requester:
        asked = asyncio.gather(*(requester.request(b"%d" % number, topic="quotes") for number in range(5)))
        async with client.producer("replies") as producer:
            await producer.send(b"of somebody else", headers=[(CORRELATION_ID, b"another")])
        answering = asyncio.create_task(answer(client, 5))
        replies = await asked
        await answering
    assert [reply.value for reply in replies] == [b"re: %d" % number for number in range(5)]
    assert header(replies[0], "by") == b"me"
    assert len({header(reply, CORRELATION_ID) for reply in replies}) == 5


async def test_a_request_by_exchange(cluster: FakeCluster, client: Client) -> None:
    for topic in ("quotes", "replies"):
        cluster.create(topic)
    await client.exchanges.declare("ask", "direct")
    with pytest.raises(errors.Unroutable):
        await client.request(b"?", exchange="ask", reply_to="replies")
    await client.exchanges.bind("ask", topic="quotes", routing_key="price")
    answering = asyncio.create_task(answer(client, 1))
    reply = await client.request(b"?", exchange="ask", routing_key="price", reply_to="replies")
    await answering
    assert reply.value == b"re: ?"


async def test_a_request_that_nobody_answers(cluster: FakeCluster, client: Client) -> None:
    for topic in ("quotes", "replies"):
        cluster.create(topic)
    with pytest.raises(errors.DeadlineExceeded) as caught:
        await client.request(b"?", topic="quotes", reply_to="replies", timeout_ms=50)
    assert caught.value.outcome is Outcome.UNKNOWN


async def test_what_asks_for_no_reply_gets_none(cluster: FakeCluster, client: Client) -> None:
    cluster.create("quotes")
    async with client.producer("quotes") as producer:
        await producer.send(b"?", headers=[(CORRELATION_ID, b"1")])
    async with client.consumer("quotes", start="earliest", until="high_watermark") as consumer:
        [record] = [record async for record in consumer]
    with pytest.raises(errors.InvalidArgument, match=REPLY_TO):
        await client.reply(record, b"!")
    with pytest.raises(errors.InvalidArgument):
        async with client.requester("quotes") as requester:
            await requester.request(b"?")


async def test_a_requester_that_is_closed_lets_nobody_wait(cluster: FakeCluster, client: Client) -> None:
    for topic in ("quotes", "replies"):
        cluster.create(topic)
    async with client.requester("replies") as requester:
        asked = asyncio.create_task(requester.request(b"?", topic="quotes"))
        await cluster.called("Produce", 1)
    with pytest.raises(errors.Unavailable) as caught:
        await asked
    assert caught.value.outcome is Outcome.UNKNOWN


def test_without_an_event_loop() -> None:
    assert {"publish", "publish_batch", "request", "reply"} <= set(vars(raftmq.blocking.BlockingClient))
