"""``raftmq verify``: verdict, table, JSON, and words instead of tracebacks."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Command
from tests.storage.whole_disk import make_disk


async def test_a_whole_disk(raftmq_command: Command, tmp_path: Path) -> None:
    make_disk(tmp_path / "data")
    told = await raftmq_command("verify", "data")
    assert told.code == 0, told.err
    assert "sound: nothing is lost or damaged" in told.out
    assert told.out.count("whole") == 3
    document = (await raftmq_command("verify", "data", "--json")).document
    assert document["verdict"] == "sound"
    assert [one["next_index"] for one in document["replicas"]] == [2, 41, 41]


async def test_a_damaged_disk(raftmq_command: Command, tmp_path: Path) -> None:
    make_disk(tmp_path / "data")
    (tmp_path / "data" / "marker").write_bytes(b"scratched")
    told = await raftmq_command("verify", "data")
    assert told.code == 1
    assert "error marker: the tail marker is damaged" in told.out
    assert "damaged: 1 error found" in told.out
    document = (await raftmq_command("verify", "data", "--json")).document
    assert (document["verdict"], document["findings"][0]["place"]) == ("damaged", "marker")


async def test_what_cannot_be_checked_gets_words(raftmq_command: Command, tmp_path: Path) -> None:
    for argument, words in (
        ("nothing", "there is no directory nothing"),
        (".", "neither a tail marker nor a database"),
    ):
        told = await raftmq_command("verify", argument)
        assert told.code == 2
        assert words in told.err
        assert "Traceback" not in told.err
