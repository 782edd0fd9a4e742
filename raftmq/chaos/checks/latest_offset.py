"""L10. Asking for a partition's end is linearizable: the answer covers every record that had been acknowledged, and
every record that a consumer had been given, before the question; and no answer is lower than one that came before
the question.
"""

from __future__ import annotations

from raftmq.chaos.checks.findings import Findings, seconds
from raftmq.chaos.history import History, Outcome


def check(history: History) -> Findings:
    """A sweep over time: at each question, the highest end that had become known before it."""
    found, sends, polls = Findings(), history.sends, history.polls
    # (when it became known, partition, the least end that follows from it, how it is told)
    facts: list[tuple[int, int, int, str]] = [
        (sends.returned[row], sends.partition[row], sends.offset[row] + 1, "acknowledged")
        for row, outcome in enumerate(sends.outcome)
        if outcome == Outcome.OK and sends.offset[row] >= 0
    ]
    facts += [
        (time, partition, offset + 1, "read")
        for time, partition, offset in zip(polls.time, polls.partition, polls.offset, strict=True)
    ]
    facts += [(one.returned, one.partition, one.high_watermark, "told") for one in history.latest]
    facts.sort()
    least: dict[int, tuple[int, int, str]] = {}
    done = 0
    for question in sorted(history.latest):
        while done < len(facts) and facts[done][0] < question.invoked:
            time, partition, end, how = facts[done]
            if end > least.get(partition, (0, 0, ""))[0]:
                least[partition] = (end, time, how)
            done += 1
        end, time, how = least.get(question.partition, (0, 0, ""))
        found.examined += 1
        if question.high_watermark < end:
            found.add(
                f"{history.name(question.partition)}: asked at {seconds(question.invoked)}, the end was said to be "
                f"{question.high_watermark}, but an end of {end} had been {how} at {seconds(time)}"
            )
    return found
