"""L4. What is in the log reaches whoever reads it: once the load is over and all is healed, every consumer is given
every record up to the end, within the time that a run waits for it.
"""

from __future__ import annotations

from raftmq.chaos.checks.findings import Findings
from raftmq.chaos.history import History


def check(history: History) -> Findings:
    found, polls = Findings(), history.polls
    given: dict[tuple[str, int], bytearray] = {}
    for reader, partition, offset in zip(polls.reader, polls.partition, polls.offset, strict=True):
        log = history.final.get(partition)
        if log is not None and offset < log.high_watermark:
            key = (_consumer(history.readers.names[reader]), partition)
            if key not in given:
                given[key] = bytearray(log.high_watermark)
            given[key][offset] = 1
    for consumer in sorted({consumer for consumer, _ in given}):
        for partition, log in sorted(history.final.items()):
            seen = given.get((consumer, partition), bytearray(log.high_watermark))
            found.examined += len(log.offset)
            missing = [offset for offset in log.offset if offset < len(seen) and not seen[offset]]
            if missing:
                found.add(
                    f"{history.name(partition)}: {consumer} was never given {len(missing)} of the records at offsets "
                    f"{missing[0]} to {missing[-1]}; the log ends at {log.high_watermark}"
                )
    return found


def _consumer(reader: str) -> str:
    """Sessions of one consumer go on where the one before ended."""
    return reader.rpartition(" session ")[0]
