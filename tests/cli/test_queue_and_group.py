"""``raftmq queue`` and ``raftmq group`` as a script sees them, with the real nodes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from unittest.mock import ANY

import pytest

import raftmq
from raftmq.cli.supervisor import LocalCluster
from tests.cli.conftest import Command, Ended
from tests.integration.conftest import configuration, end

OK, FAILED, USAGE, REFUSED = 0, 1, 2, 4
PATIENCE_MS = "60000"


@pytest.fixture
async def command(tmp_path: Path, raftmq_command: Command) -> AsyncIterator[Command]:
    """Runs ``raftmq`` against three nodes with a topic ``jobs`` of two partitions, five records in the first."""
    nodes = LocalCluster(configuration(tmp_path / "nodes"))

    async def run(*arguments: str, stdin: bytes = b"", **variables: str) -> Ended:
        return await raftmq_command(*arguments, stdin=stdin, RAFTMQ_BOOTSTRAP=nodes.bootstrap, **variables)

    try:
        await nodes.start_all()
        await nodes.wait_ready()
        async with raftmq.connect(nodes.bootstrap) as client:
            await client.admin.create_topic("jobs", partitions=2)
            async with client.producer("jobs") as producer:
                for number in range(5):
                    await producer.send(b"%d" % number, partition=0)
        yield run
    finally:
        await end(nodes)


def cells(ended: Ended) -> list[list[str]]:
    return [line.split() for line in ended.out.splitlines()]


@pytest.mark.integration
async def test_a_queue_is_made_worked_on_looked_at_and_deleted(command: Command) -> None:
    none = await command("queue", "list")
    assert (none.code, none.out, none.err) == (OK, "", "no queue groups\n")
    made = await command("queue", "set", "jobs", "mail", "attempts_max=2", "at_end=park", "lease_ms=60000")
    assert (made.code, made.out) == (OK, "group mail of topic jobs is of version 1\n")
    altered = await command("queue", "set", "jobs", "mail", "lease_ms=50000", "--json")
    settings = altered.document["settings"]
    assert (altered.document["version"], settings["attempts_max"], settings["lease_ms"]) == (2, 2, 50_000)
    listed = await command("queue", "list", "jobs")
    assert cells(listed) == [["topic", "group", "version", "paused"], ["jobs", "mail", "2", "no"]]

    parked = await command("queue", "receive", "jobs", "mail", "--max", "2", "--then", "park", "--wait-ms", PATIENCE_MS)
    assert (parked.code, parked.out) == (OK, "0\n1\n")
    taken = await command("queue", "receive", "jobs", "mail", "--json", "--wait-ms", PATIENCE_MS)
    assert (taken.document["offset"], taken.document["value"], taken.document["attempt"]) == (2, "2", 1)
    described = await command("queue", "describe", "jobs", "mail")
    assert cells(described)[1:] == [
        ["partition", "unseen", "ready", "waiting", "leased", "delayed", "parked", "done"],
        ["0", "0", "2", "0", "0", "0", "2", "1"],
        ["1", "0", "0", "0", "0", "0", "0", "0"],
        ["all", "0", "2", "0", "0", "0", "2", "1"],
    ]
    peeked = await command("queue", "peek", "jobs", "mail", "--json")
    assert [(one["offset"], one["value"], one["reason"]) for one in peeked.document] == [
        (0, "0", "queue receive"),
        (1, "1", "queue receive"),
    ]
    leased = await command("queue", "peek", "jobs", "mail", "--state", "leased")
    assert (leased.out, leased.err) == ("", "no messages are leased\n")

    redriven = await command("queue", "redrive", "jobs", "mail", "-p", "0", "--offset", "1", "--json")
    assert redriven.document == [{"partition": 0, "matched": 1, "redriven": 1, "looping": 0, "remaining": 0}]
    late = await command("queue", "cancel", "jobs", "0", "2")
    assert (late.code, "too late for mail" in late.err) == (FAILED, True)
    resumed = await command("queue", "resume", "jobs", "mail")
    assert (resumed.code, "breaker closed" in resumed.out) == (OK, True)
    piped = await command(
        "queue", "pipe", "jobs", "shout", "--max", "5", "--wait-ms", PATIENCE_MS, "--", "tr", "1", "x"
    )
    assert (piped.code, piped.err) == (OK, "5 messages done\n")
    failing = ("queue", "pipe", "jobs", "other", "--max", "1", "--wait-ms", PATIENCE_MS, "--", "false")
    rules = ("breaker_failures=1", "breaker_pause_ms=3600000")
    assert (await command("queue", "set", "jobs", "other", *rules)).code == OK
    failed = await command(*failing)
    assert (failed.code, "failed 1 times" in failed.err) == (FAILED, True)
    broken = await command("queue", "describe", "jobs", "other")
    assert [row[8:] for row in cells(broken)[1:]] == [["breaker"], ["open", "until", ANY], ["closed"], []]
    assert datetime.fromisoformat(cells(broken)[2][10]).tzinfo is not None
    document = (await command("queue", "describe", "jobs", "other", "--json")).document["partitions"]
    assert [(one["breaker_opened"], one["breaker_trying"]) for one in document] == [(1, False), (0, False)]
    assert [one["breaker_open_until_ms"] is None for one in document] == [False, True]
    assert (await command("queue", "resume", "jobs", "other")).code == OK
    repaired = await command("queue", "describe", "jobs", "other")
    assert [row[8:] for row in cells(repaired)[1:]] == [["breaker"], ["closed"], ["closed"], []]
    consumed = await command("consume", "jobs", "--from", "earliest", "--max", "10")
    assert sorted(consumed.out.split()) == sorted("01234" + "0x234")
    unknown = await command("queue", "processed", "jobs", "shout", "job-1")
    assert (unknown.code, "not known to be processed: job-1" in unknown.err) == (FAILED, True)
    sought = await command("queue", "seek", "jobs", "mail", "4", "--yes")
    assert (sought.code, cells(sought)[1]) == (OK, ["0", "4"])
    deleted = await command("queue", "delete", "jobs", "mail", "--yes")
    assert deleted.out == "deleted group mail of topic jobs\n"
    gone = await command("queue", "describe", "jobs", "mail")
    assert (gone.code, "UNKNOWN_QUEUE_GROUP" in gone.err) == (REFUSED, True)


@pytest.mark.integration
async def test_offsets_of_a_group_are_set_shown_and_forgotten(command: Command) -> None:
    tried = await command("group", "reset", "readers", "--topic", "jobs", "--to", "2", "--dry-run")
    assert (tried.code, tried.err) == (OK, "nothing was changed\n")
    assert cells(tried) == [["partition", "before", "after"], ["jobs/0", "-", "2"], ["jobs/1", "-", "0"]]
    none = await command("group", "list")
    assert (none.code, none.out, none.err) == (OK, "", "no groups\n")

    assert (await command("group", "reset", "readers", "-t", "jobs", "--to", "2")).code == OK
    back = await command("group", "reset", "readers", "-t", "jobs", "--shift=-1", "-p", "0", "--json")
    assert back.document == [{"partition": 0, "before": 2, "after": 1}]
    assert cells(await command("group", "list"))[1:] == [["readers", "0"]]
    described = await command("group", "describe", "readers")
    assert "no members" in described.out
    first = next(row for row in cells(described) if row[0] == "jobs/0")
    assert first[1:4] == ["1", "5", "4"]
    as_json = (await command("group", "describe", "readers", "--json")).document
    assert [(one["partition"], one["lag"]) for one in as_json["partitions"]] == [(0, 4), (1, 0)]

    forgotten = await command("group", "delete", "readers")
    assert (forgotten.code, forgotten.err) == (OK, "group readers is forgotten\n")
    gone = await command("group", "describe", "readers")
    assert (gone.code, "UNKNOWN_GROUP" in gone.err, "'raftmq group list'" in gone.err) == (REFUSED, True, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("queue", "set", "jobs", "mail", "paused=maybe"), "paused is true or false"),
        (("queue", "set", "jobs", "mail", "lease_ms=-1"), "lease_ms is a number"),
        (("queue", "set", "jobs", "mail", "at_end=burn"), "at_end is park or drop"),
        (("queue", "set", "jobs", "mail", "nonsense=1"), "settings are start"),
        (("queue", "redrive", "jobs", "mail", "--offset", "1"), "needs --partition"),
        (("queue", "pipe", "jobs", "mail", "--", "/no/such/command"), "there is no command"),
        (("queue", "seek", "jobs", "mail", "sometime", "--yes"), "'sometime' is no offset"),
        (("group", "reset", "readers", "--topic", "jobs"), "give either --to or --shift"),
        (("group", "reset", "readers", "-t", "jobs", "--to", "1", "--shift", "1"), "give either --to or --shift"),
        (("group", "reset", "readers", "-t", "jobs", "--to", "never"), "'never' is no offset"),
    ],
)
async def test_wrong_usage_is_told_before_anybody_is_asked(
    raftmq_command: Command, arguments: tuple[str, ...], said: str
) -> None:
    ended = await raftmq_command(*arguments)
    assert (ended.code, said in ended.err) == (USAGE, True), ended.err


@pytest.mark.parametrize("family", ["queue", "group", "quota"])
async def test_every_verb_stands_in_the_help(raftmq_command: Command, family: str) -> None:
    verbs = {
        "queue": "set list describe delete receive peek redrive seek resume cancel pipe processed",
        "group": "list describe reset delete",
        "quota": "set list delete",
    }
    told = await raftmq_command(family, "--help")
    assert told.code == OK
    assert [verb for verb in verbs[family].split() if f" {verb} " not in told.out] == []
