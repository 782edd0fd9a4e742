"""Lines as records, by format."""

from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from raftmq.cli.rows import CsvRows, InputFormat, RowError, parser


def rows(form: InputFormat, text: bytes, key: str | None = None) -> list[tuple[bytes | None, bytes]]:
    parse = parser(form, key, b"")
    return [row for line in text.split(b"\n") if (row := parse(line)) is not None]


def test_json_lines_are_sent_as_they_stand_with_a_field_for_key() -> None:
    text = b'{"k": "a", "n": 1}\n\n  {"k":7}\n{"k":null}\n{"k":"\xc3\xa9"}\n{"k":[1,"x"]}\n'
    assert rows(InputFormat.JSON, text, "k") == [
        (b"a", b'{"k": "a", "n": 1}'),
        (b"7", b'{"k":7}'),
        (None, b'{"k":null}'),
        ("é".encode(), '{"k":"é"}'.encode()),
        (b'[1,"x"]', b'{"k":[1,"x"]}'),
    ]
    assert rows(InputFormat.JSON, b'{"k":1}') == [(None, b'{"k":1}')]


@pytest.mark.parametrize(
    ("line", "said"), [(b"{", "no JSON"), (b"[1]", "must be a JSON object"), (b'{"a":1}', "no field 'k' among a")]
)
def test_json_that_is_no_row_is_told(line: bytes, said: str) -> None:
    with pytest.raises(RowError, match=said):
        rows(InputFormat.JSON, line, "k")


def test_csv_rows_become_objects_with_a_column_for_key() -> None:
    text = b'\xef\xbb\xbfid,name\r\n1,"Smith, Jo"\r\n\r\n2,"two\nlines ""quoted"""\r\n3,\n'
    assert rows(InputFormat.CSV, text, "id") == [
        (b"1", b'{"id":"1","name":"Smith, Jo"}'),
        (b"2", b'{"id":"2","name":"two\\nlines \\"quoted\\""}'),
        (b"3", b'{"id":"3","name":""}'),
    ]


TEXT = st.text(st.characters(exclude_characters="\r\0", exclude_categories=["Cs"]), max_size=6)


@given(st.lists(st.lists(TEXT, min_size=2, max_size=2), max_size=6))
def test_what_a_csv_writer_writes_is_read_back(table: list[list[str]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([["a", "b"], *table])
    read = [json.loads(value) for _, value in rows(InputFormat.CSV, text.getvalue().encode())]
    assert read == [{"a": a, "b": b} for a, b in table]


@pytest.mark.parametrize(
    ("text", "key", "said"),
    [
        (b"a,b\n1,2,3", "a", "3 fields, the header has 2"),
        (b"a,b\n1", None, "1 fields, the header has 2"),
        (b"a,b", "k", "no column 'k' among a, b"),
        (b"k\n\xff", "k", "no UTF-8"),
        (b'k\n"x"y,z', "k", "expected after"),
    ],
)
def test_csv_that_is_no_row_is_told(text: bytes, key: str | None, said: str) -> None:
    with pytest.raises(RowError, match=said):
        rows(InputFormat.CSV, text, key)


def test_a_quoted_field_must_end() -> None:
    parse = CsvRows(None)
    for line in (b"a", b'"x', b"y"):
        assert parse(line) is None
    with pytest.raises(RowError, match="ends within a quoted field"):
        parse.end()
