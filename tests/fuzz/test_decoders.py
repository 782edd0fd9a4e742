"""Decoders of stored bytes: whatever they are given, they answer or raise the errors that they are known for.

Mutations begin with bytes that are valid, so that most of them get past the first check; checksums at the end are made
good again in half of the cases, or nothing behind them would ever be reached.
"""

from __future__ import annotations

import struct
import tracemalloc
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raftmq.records.entry import crc32c
from tests.fuzz.decoders import CORPUS, DECODERS, Decoder, corpus

EXTREMES = [0, 1, 0x7F, 0x80, 0xFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1]
WITH_CRC = {"entry_header", "offset_row", "identity", "marker"}
MEMORY_MAX = 32 * 1024 * 1024
"""The largest record batch takes half of it."""


def answers(decoder: Decoder, data: bytes) -> None:
    """Nothing but an answer or a known error."""
    with suppress(*decoder.errors):
        decoder.read(data)


@st.composite
def mutated(draw: st.DrawFn, name: str) -> bytes:
    data = bytearray(draw(st.sampled_from(DECODERS[name].valid)))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        match draw(st.integers(0, 5)):
            case 0 if at < len(data):
                data[at] ^= 1 << draw(st.integers(0, 7))
            case 1:
                del data[at:]
            case 2:
                data[at:at] = draw(st.binary(max_size=9))
            case 3:
                value, size = draw(st.sampled_from(EXTREMES)), draw(st.sampled_from([1, 2, 4, 8]))
                data[at : at + size] = (value % (1 << 8 * size)).to_bytes(size, "big")
            case 4:
                data += data[at : at + draw(st.integers(0, 40))]
            case _:
                data[at : at + draw(st.integers(0, 9))] = b""
    if name in WITH_CRC and len(data) >= 4 and draw(st.booleans()):
        data[-4:] = struct.pack(">I", crc32c(bytes(data[:-4])))
    return bytes(data)


@pytest.mark.parametrize("name", DECODERS)
def test_what_is_valid_is_taken(name: str) -> None:
    for data in DECODERS[name].valid:
        DECODERS[name].read(data)


@pytest.mark.parametrize("name", DECODERS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_mutations_raise_nothing_else(name: str, data: st.DataObject) -> None:
    answers(DECODERS[name], data.draw(mutated(name)))


@pytest.mark.parametrize("name", DECODERS)
@settings(max_examples=20, deadline=None)
@given(noise=st.binary(max_size=200))
def test_noise_raises_nothing_else(name: str, noise: bytes) -> None:
    answers(DECODERS[name], noise)


@pytest.mark.parametrize("name", sorted(path.stem for path in CORPUS.glob("*.txt")))
def test_kept_cases_raise_nothing_else_and_take_little_memory(name: str) -> None:
    """Sizes that are declared are not believed."""
    for data in corpus(name):
        tracemalloc.start()
        try:
            answers(DECODERS[name], data)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < MEMORY_MAX, f"{len(data)} bytes took {peak}"


def test_there_are_kept_cases() -> None:
    assert sum(len(corpus(path.stem)) for path in CORPUS.glob("*.txt")) >= 30
