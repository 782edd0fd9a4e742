"""What a node's log says of its leaderships."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from raftmq.chaos.faults.restarts import RollingRestartFault, handed_over
from raftmq.chaos.plans import RollingRestart
from raftmq.ids import NodeId
from tests.chaos import fake_arena


def log(*events: str) -> str:
    return "".join(f"timestamp='2026-01-01T00:00:00.000000Z' level='info' node=1 event={one}\n" for one in events)


def began(group: int) -> str:
    return f"'leadership began' group={group} term=3"


def ended(group: int) -> str:
    return f"'leadership ended' group={group} term=4"


def test_all_that_was_led_was_handed_over() -> None:
    assert handed_over(log("'starting' version='1'", began(0), began(1), "'stopping'", ended(1), ended(0))) == (2, 0)


def test_what_was_led_to_the_end_was_not() -> None:
    assert handed_over(log("'starting'", began(0), began(1), "'stopping'", ended(1), "'stopped'")) == (2, 1)


def test_what_had_ended_before_was_not_handed_over() -> None:
    assert handed_over(log("'starting'", began(0), ended(0), began(1), "'stopping'", ended(1))) == (1, 0)


def test_only_the_last_process_counts() -> None:
    before = log("'starting'", began(0), began(1), "'stopping'", ended(0))
    assert handed_over(before + log("'starting'", began(2), "'stopping'", ended(2))) == (1, 0)


def test_a_node_that_was_never_told_has_handed_nothing_over() -> None:
    assert handed_over(log("'starting'", began(0), began(1))) == (2, 2)


class Obedient(fake_arena.StubbornProcesses):
    """They end as they are told, with a status, and leave a log behind."""

    status = 0
    said = log("'starting'", began(0), "'stopping'", ended(0))
    by_itself = True

    def pid(self, node: NodeId) -> int | None:
        return 1000 + self._done.count(f"start {node}")

    def exit_status(self, node: NodeId) -> int | None:
        return self.status

    def log_file(self, node: NodeId) -> Path:
        path = super().log_file(node)
        path.write_text(self.said)
        return path

    async def stop(self, node: NodeId) -> bool:
        return self.by_itself


async def restarted(tmp_path: Path, **differently: Any) -> tuple[bool, str]:
    async with fake_arena.arena(tmp_path) as (arena, done):
        arena.processes = Obedient(arena.topology.config, tmp_path, None, done)
        for name, value in differently.items():
            setattr(arena.processes, name, value)
        fault = RollingRestartFault(RollingRestart(fault="rolling-restart", at=1), arena)
        await fault.inject()
        await fault.heal()
        return fault.proof.fired, fault.proof.violation


async def test_nodes_that_end_by_themselves_and_hand_over_are_a_rolling_restart(tmp_path: Path) -> None:
    assert await restarted(tmp_path) == (True, "")


async def test_one_that_had_to_be_killed_is_none(tmp_path: Path) -> None:
    assert await restarted(tmp_path, by_itself=False, status=-9) == (False, "")


async def test_leaderships_that_were_kept_are_none(tmp_path: Path) -> None:
    assert await restarted(tmp_path, said=log("'starting'", began(0), "'stopping'", "'stopped'")) == (False, "")


async def test_nothing_to_hand_over_is_none(tmp_path: Path) -> None:
    assert await restarted(tmp_path, said=log("'starting'", "'stopping'", "'stopped'")) == (False, "")


async def test_a_node_that_fails_while_it_stops_does_what_it_must_not(tmp_path: Path) -> None:
    fired, violation = await restarted(tmp_path, status=3)
    assert not fired
    assert violation == "node 1 ended with status 3, node 2 ended with status 3, node 3 ended with status 3"
