"""Commands as a script sees them: what they print where, and how they end."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from raftmq import __version__
from tests.cli.conftest import Command
from tests.client.fake_broker import FakeCluster

OK, FAILED, USAGE, UNAVAILABLE, REFUSED = range(5)


async def test_the_version(raftmq_command: Command) -> None:
    ended = await raftmq_command("--version")
    assert (ended.code, ended.out) == (OK, f"raftmq {__version__}\n")


async def test_the_exit_codes_stand_in_the_help(raftmq_command: Command) -> None:
    ended = await raftmq_command("--help")
    assert "3  the cluster cannot be reached" in ended.out


async def test_a_topic_is_created_listed_described_and_deleted(client_command: Command) -> None:
    created = await client_command("topic", "create", "orders", "--partitions", "2")
    assert (created.code, created.out) == (
        OK,
        "created topic orders: 2 partitions, 2 replicas, min in sync 1, records kept for ever\n",
    )
    listed = await client_command("topic", "list", "--json")
    assert [(topic["name"], len(topic["partitions"])) for topic in listed.document] == [("orders", 2)]
    described = await client_command("topic", "describe", "orders", "--json")
    assert described.document["partitions"][1]["offsets"]["high_watermark"] == 0
    table = await client_command("topic", "describe", "orders")
    assert "topic orders: 2 partitions" in table.out
    deleted = await client_command("topic", "delete", "orders", "--yes")
    assert (deleted.code, deleted.out) == (OK, "deleted topic orders\n")
    assert (await client_command("topic", "list", "--json")).document == []


async def test_delete_asks_first(client_command: Command, cluster: FakeCluster) -> None:
    cluster.create("orders")
    ended = await client_command("topic", "delete", "orders", stdin=b"n\n")
    assert ended.code != OK
    assert "orders" in cluster.topics


async def test_what_the_cluster_refuses_ends_with_4_and_says_what_to_do(client_command: Command) -> None:
    ended = await client_command("topic", "describe", "nothing")
    assert (ended.code, ended.out) == (REFUSED, "")
    assert ended.err.startswith("error: UNKNOWN_TOPIC: ")
    assert "'raftmq topic list' shows the topics" in ended.err


async def test_without_a_cluster_it_ends_with_3_and_says_what_to_do(raftmq_command: Command) -> None:
    ended = await raftmq_command("topic", "list", "--bootstrap", "127.0.0.1:1")
    assert (ended.code, ended.out) == (UNAVAILABLE, "")
    assert "127.0.0.1:1" in ended.err
    assert "'raftmq up' starts the nodes" in ended.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("topic", "list", "--bootstrap", "nowhere"), "--bootstrap: 'nowhere' is not HOST:PORT"),
        (("topic", "list"), "cluster.yml cannot be used:\n  No such file or directory; name one with --config"),
        (("topic", "list", "--config", "/dev/null"), "the file must be a mapping"),
        (("topic", "lst"), "Did you mean 'list'?"),
        (("consume", "orders", "--from", "now"), "is no offset and no time"),
        (("consume", "orders", "--from", "2026-13-01"), "is no offset and no time"),
        (("consume", "orders", "--from", "99999999999999d"), "is no offset and no time"),
        (("produce", "orders", "--key", "k"), "it names a field of --format json or csv"),
        (("produce", "orders", "--format", "csv", "--key-separator", ":"), "it is for --format text; use --key"),
        (("demo", "--key", "tail"), "it names a column of --input FILE"),
        (("demo", "--input", "nothing.csv"), "nothing.csv is no file"),
        (("produce", "orders", "nothing.txt", "--bootstrap", "127.0.0.1:1"), "127.0.0.1:1"),
    ],
)
async def test_wrong_usage_is_told_without_a_traceback(
    raftmq_command: Command, arguments: tuple[str, ...], said: str
) -> None:
    ended = await raftmq_command(*arguments)
    assert said in ended.err
    assert "Traceback" not in ended.err
    assert ended.code == (UNAVAILABLE if "127.0.0.1:1" in arguments else USAGE)


async def test_debugging_shows_the_traceback(raftmq_command: Command) -> None:
    ended = await raftmq_command("topic", "list", RAFTMQ_DEBUG="1")
    assert ended.code != OK
    assert "Traceback" in ended.err


# -- produce and consume -----------------------------------------------------------------------------------------


async def test_lines_go_in_and_come_out(client_command: Command, cluster: FakeCluster) -> None:
    cluster.create("orders")
    produced = await client_command("produce", "orders", stdin=b"one\ntwo\n\nthree")
    assert (produced.code, produced.out) == (OK, "")
    assert produced.err == "4 records acknowledged: 4 in partition 0\n"
    consumed = await client_command("consume", "orders")
    assert (consumed.code, consumed.out) == (OK, "one\ntwo\n\nthree\n")


async def test_keys_stand_before_the_separator(client_command: Command, cluster: FakeCluster) -> None:
    cluster.create("orders")
    await client_command("produce", "orders", "--key-separator", ":", stdin=b"k:v:w\nplain\n:x\n")
    consumed = await client_command("consume", "orders", "--format", "json")
    records = [json.loads(line) for line in consumed.out.splitlines()]
    assert [(r["offset"], r["key"], r["value"]) for r in records] == [(0, "k", "v:w"), (1, None, "plain"), (2, "", "x")]
    text = await client_command("consume", "orders", "--key-separator", "=")
    assert text.out == "k=v:w\nplain\n=x\n"


async def test_json_and_csv_rows_are_sent_with_a_key_by_name(
    client_command: Command, cluster: FakeCluster, tmp_path: Path
) -> None:
    cluster.create("orders")
    (tmp_path / "a.csv").write_text('id,name\n1,"x\ny"\n')
    (tmp_path / "b.csv").write_text("name,id\nz,2\n")
    produced = await client_command("produce", "orders", "a.csv", "b.csv", "--format", "csv", "--key", "id")
    assert (produced.code, produced.err) == (OK, "2 records acknowledged: 2 in partition 0\n")
    produced = await client_command("produce", "orders", "--format", "json", "--key", "id", stdin=b'{"id":3}\n')
    assert produced.code == OK
    consumed = await client_command("consume", "orders", "--format", "json")
    records = [json.loads(line) for line in consumed.out.splitlines()]
    assert [(r["key"], json.loads(r["value"])) for r in records] == [
        ("1", {"id": "1", "name": "x\ny"}), ("2", {"name": "z", "id": "2"}), ("3", {"id": 3}),
    ]  # fmt: skip


async def test_a_row_that_is_none_is_named_and_those_before_it_are_sent(
    client_command: Command, cluster: FakeCluster
) -> None:
    (partition,) = cluster.create("orders")
    ended = await client_command("produce", "orders", "--format", "json", stdin=b'{"a":1}\n{"a":2}\nnonsense\n')
    assert ended.code == USAGE
    assert "2 records were acknowledged before:\nerror: -, line 3: no JSON" in ended.err
    assert partition.values() == [b'{"a":1}', b'{"a":2}']


async def test_files_are_read_one_after_the_other(
    client_command: Command, cluster: FakeCluster, tmp_path: Path
) -> None:
    cluster.create("orders")
    (tmp_path / "a").write_text("1\n2")
    (tmp_path / "b").write_text("4\n")
    produced = await client_command("produce", "orders", "a", "-", "b", "--json", stdin=b"3\n")
    assert produced.document == {"acknowledged": 4, "acks": "ALL", "partitions": {"0": 4}}
    assert cluster.topics["orders"][0].values() == [b"1", b"2", b"3", b"4"]


async def test_a_long_file_is_sent_whole(client_command: Command, cluster: FakeCluster) -> None:
    cluster.create("orders")
    lines = [b"%d %s" % (number, b"x" * 97) for number in range(5000)]
    produced = await client_command("produce", "orders", stdin=b"\n".join(lines))
    assert produced.code == OK
    assert cluster.topics["orders"][0].values() == lines


async def test_a_missing_file_is_wrong_usage(client_command: Command, cluster: FakeCluster) -> None:
    cluster.create("orders")
    ended = await client_command("produce", "orders", "nothing.txt")
    assert ended.code == USAGE
    assert "nothing.txt cannot be read: No such file or directory" in ended.err


async def test_weaker_acks_are_sent_as_asked(client_command: Command, cluster: FakeCluster) -> None:
    cluster.create("orders")
    produced = await client_command("produce", "orders", "--acks", "leader", "--json", stdin=b"one\n")
    assert produced.document["acks"] == "LEADER"


async def test_a_refused_record_ends_produce_with_its_reason(client_command: Command, cluster: FakeCluster) -> None:
    cluster.create("orders")
    ended = await client_command("produce", "orders", "--partition", "7", stdin=b"one\n")
    assert ended.code == REFUSED
    assert "0 records were acknowledged before:\nerror: UNKNOWN_PARTITION: " in ended.err


async def test_a_window_of_a_partition(client_command: Command, cluster: FakeCluster) -> None:
    cluster.create("orders", partitions=2)
    await client_command("produce", "orders", "-p", "1", stdin=b"0\n1\n2\n3\n")
    consumed = await client_command("consume", "orders", "-p", "1", "--from", "1", "--max", "2")
    assert consumed.out == "1\n2\n"
    empty = await client_command("consume", "orders", "-p", "0")
    assert (empty.code, empty.out) == (OK, "")


@pytest.mark.parametrize(
    ("begin", "out"),
    [
        ("2023-11-14T22:13:20Z", "0\n1\n"),
        ("2023-11-14T23:13:20+01:00", "0\n1\n"),
        ("2023-11-14T22:13:21Z", ""),
        ("2001-01-01", "0\n1\n"),
        ("15m", ""),
        ("36500d", "0\n1\n"),
    ],
)
async def test_reading_begins_at_a_time(client_command: Command, cluster: FakeCluster, begin: str, out: str) -> None:
    """All of the fake's records are appended at 1,700,000,000,000 ms."""
    cluster.create("orders")
    await client_command("produce", "orders", stdin=b"0\n1\n")
    consumed = await client_command("consume", "orders", "--from", begin)
    assert (consumed.code, consumed.out) == (OK, out)


async def test_latest_without_follow_is_nothing(client_command: Command, cluster: FakeCluster) -> None:
    cluster.create("orders")
    await client_command("produce", "orders", stdin=b"old\n")
    assert (await client_command("consume", "orders", "--from", "latest")).out == ""


async def test_follow_waits_for_what_comes(client_command: Command, cluster: FakeCluster) -> None:
    cluster.create("orders")
    consuming = asyncio.ensure_future(client_command("consume", "orders", "--follow", "--max", "1"))
    await cluster.called("Fetch", 1)
    await client_command("produce", "orders", stdin=b"new\n")
    assert (await consuming).out == "new\n"


async def test_bytes_that_are_no_text_are_not_lost(client_command: Command, cluster: FakeCluster) -> None:
    cluster.create("orders")
    await client_command("produce", "orders", stdin=b"\xff\xfe\n")
    consumed = await client_command("consume", "orders", "--format", "json")
    assert json.loads(consumed.out)["value_base64"] == "//4="


async def test_a_closed_pipe_is_not_a_traceback(client_command: Command, cluster: FakeCluster) -> None:
    cluster.create("orders")
    lines = b"".join(b"%d %s\n" % (number, b"x" * 90) for number in range(20_000))
    await client_command("produce", "orders", stdin=lines)
    reading, writing = os.pipe()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "raftmq", "consume", "orders", "--bootstrap", cluster.addresses),
        stdout=writing,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(writing)
    assert await asyncio.to_thread(os.read, reading, 2) == b"0 "
    os.close(reading)
    _, err = await process.communicate()
    assert (process.returncode, err) == (OK, b"")


# -- cluster -----------------------------------------------------------------------------------------------------


async def test_status_as_json_names_health_and_nodes(client_command: Command, cluster: FakeCluster) -> None:
    cluster.create("orders")
    ended = await client_command("cluster", "status", "--json")
    assert ended.document["health"] in ("healthy", "degraded")
    assert ended.code == (OK if ended.document["health"] == "healthy" else FAILED)
    assert [node["info"]["node_id"] for node in ended.document["nodes"]] == [1, 2]


async def test_leadership_is_moved(client_command: Command, cluster: FakeCluster) -> None:
    cluster.create("orders", partitions=2)
    ended = await client_command("cluster", "transfer-leader", "orders", "--partition", "1", "--to", "2")
    assert (ended.code, ended.out) == (OK, "partition 1 of orders has handed its leadership over\n")
    assert [partition.leader for partition in cluster.topics["orders"]] == [1, 2]
    refused = await client_command("cluster", "transfer-leader", "orders", "--to", "9")
    assert refused.code == REFUSED
    assert "PRECONDITION_FAILED: node 9 is not in sync" in refused.err


async def test_an_operation_is_begun_and_waited_for(client_command: Command, cluster: FakeCluster) -> None:
    cluster.create("orders")
    moved = await client_command("cluster", "move-replica", "orders", "0", "--from", "1", "--to", "2")
    assert (moved.code, moved.out) == (OK, "operation 1: move_replica orders/0 from 1 to 2: done\n")
    assert "it catches up" in moved.err
    for number, command in enumerate(("drain", "remove-node", "repair-node"), 2):
        begun = await client_command("cluster", command, "2", "--no-wait", "--json")
        assert (begun.document["operation_id"], begun.document["state"]) == (number, "running")
    cancelled = await client_command("cluster", "operations", "cancel", "3")
    assert (cancelled.code, cancelled.out) == (OK, "operation 3: remove_node 2: cancelled\n")
    listed = await client_command("cluster", "operations", "--json")
    assert [one["state"] for one in listed.document] == ["done", "running", "cancelled", "running"]
    assert "move_replica orders/0 from 1 to 2" in (await client_command("cluster", "operations")).out


async def test_an_operation_can_be_checked_only(client_command: Command, cluster: FakeCluster) -> None:
    checked = await client_command("cluster", "add-node", "4", "--peer", "127.0.0.1:9504", "--check")
    assert (checked.code, checked.out) == (OK, "add_node 4: it can be done\n")
    assert cluster.operations == []
    assert (await client_command("cluster", "add-node", "4", "--peer", "nowhere")).code == USAGE
    refused = await client_command("cluster", "operations", "cancel", "7")
    assert refused.code == REFUSED
    assert "UNKNOWN_OPERATION" in refused.err
    assert (await client_command("cluster", "operations", "cancel")).code == USAGE
