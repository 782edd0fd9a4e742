"""``raftmq quota`` as a script sees it."""

from __future__ import annotations

from tests.cli.conftest import Command
from tests.client.fake_broker import FakeCluster

OK, USAGE = 0, 2


async def test_quotas_are_set_listed_and_deleted(client_command: Command, cluster: FakeCluster) -> None:
    none = await client_command("quota", "list")
    assert (none.code, none.out, none.err) == (OK, "", "no quotas: every client may do what it likes\n")
    named = await client_command("quota", "set", "app", "--produce-bytes", "1000000", "--fetch-bytes", "7")
    assert (named.code, named.out) == (OK, "set the quota of app\n")
    default = await client_command("quota", "set", "--requests", "10")
    assert default.out == "set the quota of everybody else\n"
    assert cluster.quotas["app"].produce_bytes_per_s == 1_000_000

    table = await client_command("quota", "list")
    assert [line.split() for line in table.out.splitlines()[1:]] == [
        ["everybody", "else", "-", "-", "10"],
        ["app", "1,000,000", "7", "-"],
    ]
    listed = await client_command("quota", "list", "--json")
    assert listed.document == [
        {"client_id": "", "produce_bytes_per_s": 0, "fetch_bytes_per_s": 0, "requests_per_s": 10},
        {"client_id": "app", "produce_bytes_per_s": 1_000_000, "fetch_bytes_per_s": 7, "requests_per_s": 0},
    ]

    deleted = await client_command("quota", "delete", "app")
    assert (deleted.code, deleted.out, sorted(cluster.quotas)) == (OK, "deleted the quota of app\n", [""])


async def test_wrong_usage(client_command: Command, cluster: FakeCluster) -> None:
    ended = await client_command("quota", "set", "app", "--requests", "-1")
    assert (ended.code, "--requests" in ended.err, cluster.quotas) == (USAGE, True, {})
    told = await client_command("quota", "set", "--help")
    assert (
        told.code,
        "[CLIENT]" in told.out,
        "of all that have none" in " ".join(told.out.replace("│", " ").split()),
    ) == (OK, True, True)
