"""``raftmq exchange`` and ``raftmq publish`` as a script sees them."""

from __future__ import annotations

from raftmq.errors import MessageTooLarge
from tests.cli.conftest import Command
from tests.client.fake_broker import FakeCluster

OK, USAGE, REFUSED = 0, 2, 4


async def test_declared_bound_traced_published_to_and_deleted(client_command: Command, cluster: FakeCluster) -> None:
    for topic in ("mails", "audit"):
        cluster.create(topic)
    await client_command("exchange", "declare", "spare", "--kind", "headers")
    declared = await client_command("exchange", "declare", "events", "--kind", "topic", "--alternate", "spare")
    assert (declared.code, declared.out) == (OK, "declared: exchange events, topic, alternate spare, 0 bindings\n")
    bound = await client_command("exchange", "bind", "events", "--topic", "mails", "-k", "orders.*.created")
    assert (bound.code, bound.out) == (OK, "bound: exchange events, topic, alternate spare, 1 binding\n")
    other = await client_command("exchange", "bind", "events", "-t", "audit", "-k", "orders.#", "--json")
    assert [one["routing_key"] for one in other.document["bindings"]] == ["orders.*.created", "orders.#"]
    await client_command("exchange", "bind", "spare", "-t", "audit", "-H", "urgent=", "-H", "a=1", "--match", "any")

    listed = await client_command("exchange", "list")
    assert "any of a=1, urgent=" in listed.out
    assert "topic mails" in listed.out
    traced = await client_command("exchange", "trace", "events", "-k", "stock", "-H", "urgent=yes")
    assert traced.out == (
        "exchange events\n  nothing fits -> alternate exchange spare\n"
        "exchange spare\n  any of a=1, urgent= -> topic audit\nreaches: audit\n"
    )
    nowhere = await client_command("exchange", "trace", "events", "-k", "stock", "--json")
    assert (nowhere.code, nowhere.document["topics"], len(nowhere.document["steps"])) == (OK, [], 2)

    sent = await client_command("publish", "events", "-k", "orders.eu.created", "--json", stdin=b"one\ntwo\n")
    assert sent.document == {
        "sent": 2, "unroutable": 0, "topics": {"audit": 2, "mails": 2}, "refused_by": [],
    }  # fmt: skip
    assert cluster.partition("mails", 0).values() == cluster.partition("audit", 0).values() == [b"one", b"two"]

    unbound = await client_command("exchange", "unbind", "events", "--topic", "mails", "-k", "orders.*.created")
    assert unbound.out == "unbound: exchange events, topic, alternate spare, 1 binding\n"
    in_use = await client_command("exchange", "delete", "spare")
    assert (in_use.code, "PRECONDITION_FAILED" in in_use.err) == (REFUSED, True)
    assert (await client_command("exchange", "delete", "spare", "--force")).code == OK


async def test_run_again_under_its_id_a_publish_appends_nothing(client_command: Command, cluster: FakeCluster) -> None:
    cluster.create("t")
    await client_command("exchange", "declare", "all", "--kind", "fanout")
    await client_command("exchange", "bind", "all", "-t", "t")
    lines = b"".join(b"%d\n" % number for number in range(1_200))
    for _ in range(2):
        ended = await client_command("publish", "all", "--message-id", "today", stdin=lines)
        assert (ended.code, "1,200 records acknowledged by topic t" in ended.err) == (OK, True)
    assert cluster.partition("t", 0).values() == lines.split()
    assert sorted(cluster.partition("t", 0).named) == ["today/1", "today/2", "today/3"]


async def test_a_topic_that_refuses_is_told_beside_those_that_did_not(
    client_command: Command, cluster: FakeCluster
) -> None:
    for topic in "ab":
        cluster.create(topic)
    await client_command("exchange", "declare", "all", "--kind", "fanout")
    for topic in "ab":
        await client_command("exchange", "bind", "all", "-t", topic)
    cluster.exchanges.refusals["b"] = [MessageTooLarge("1 MiB")]
    ended = await client_command("publish", "all", "--json", stdin=b"x\n")
    assert ended.code == REFUSED
    assert "topic b" in ended.err
    assert ended.document["topics"] == {"a": 1, "b": 0}
    assert ended.document["refused_by"] == ["b"]


async def test_what_reaches_nobody(client_command: Command) -> None:
    await client_command("exchange", "declare", "all", "--kind", "fanout")
    ended = await client_command("publish", "all", stdin=b"x\ny\n")
    assert (ended.code, "2 records reached no topic" in ended.err) == (OK, True)
    refused = await client_command("publish", "all", "--mandatory", stdin=b"x\n")
    assert refused.code == REFUSED
    assert "'raftmq exchange trace" in refused.err
    unknown = await client_command("publish", "nope", stdin=b"x\n")
    assert (unknown.code, "'raftmq exchange declare" in unknown.err) == (REFUSED, True)


async def test_wrong_usage(client_command: Command) -> None:
    header = await client_command("exchange", "bind", "x", "-t", "t", "-H", "novalue")
    assert (header.code, "is not NAME=VALUE" in header.err) == (USAGE, True)
    assert (await client_command("exchange", "declare", "x")).code == USAGE
    both = await client_command("exchange", "bind", "x", "-t", "t", "--to-exchange", "y")
    assert "either a topic or an exchange" in both.err
    empty = await client_command("exchange", "list")
    assert "no exchanges yet" in empty.err
