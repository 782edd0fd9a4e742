"""Histories of a consumer group, made by hand."""

from __future__ import annotations

from tests.chaos.events import Events, P, final, observe, send

G = "readers"


def owns(member: str, epoch: int, *, t: int) -> Events:
    return [{"t": t, "f": "owns", "group": G, "member": member, "epoch": epoch, "partitions": [P]}]


def given(member: str, offset: int, after: int, *, t: int) -> Events:
    return [{"t": t, "f": "given", "group": G, "member": member, "partition": P, "offset": offset, "next": after}]


def commit(
    op: int, member: str, epoch: int, offset: int, *, t: int, until: int, outcome: str = "ok", refused: bool = False
) -> Events:
    return [
        {"t": t, "f": "commit", "type": "invoke", "op": op, "group": G, "member": member, "epoch": epoch,
         "offsets": {P: offset}},
        {"t": until, "f": "commit", "type": outcome, "op": op, "refused": {P: "STALE_MEMBER"} if refused else {}},
    ]  # fmt: skip


def ask(op: int, offset: int | None, *, t: int, until: int) -> Events:
    return [
        {"t": t, "f": "committed", "type": "invoke", "op": op, "group": G},
        {"t": until, "f": "committed", "type": "ok", "op": op, "group": G,
         "offsets": {} if offset is None else {P: offset}},
    ]  # fmt: skip


def good_group() -> tuple[Events, ...]:
    """One member reads, oversleeps, and is refused; another one goes on, and one commit's outcome is not known."""
    return (
        send(1, 10, 11, 12, 13, t=1, until=5, offset=0),
        observe(1, 6, term=1),
        ask(2, None, t=7, until=8),
        owns("a", 1, t=10),
        given("a", 0, 2, t=11),
        commit(3, "a", 1, 2, t=12, until=14),
        ask(4, 2, t=15, until=16),
        given("a", 2, 3, t=17),
        owns("b", 2, t=50),
        given("b", 2, 3, t=51),
        commit(5, "a", 1, 3, t=60, until=61, refused=True),
        commit(6, "b", 2, 3, t=62, until=63, outcome="info"),
        ask(7, 2, t=64, until=65),
        given("b", 3, 4, t=66),
        commit(8, "b", 2, 4, t=67, until=70),
        ask(9, 4, t=71, until=72),
        final(10, 11, 12, 13),
    )
