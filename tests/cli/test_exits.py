"""Every error of the tree has words and an exit code."""

from __future__ import annotations

import pytest

from raftmq.cli import exits
from raftmq.cli.exits import CommandError, ExitCode
from raftmq.config import ConfigError
from raftmq.errors import (
    AlreadyExists,
    DataLoss,
    DeadlineExceeded,
    InternalError,
    InvalidArgument,
    LeadershipLost,
    NoLeader,
    NotEnoughReplicas,
    Outcome,
    Overloaded,
    RaftmqError,
    StorageFull,
    UnknownTopic,
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NoLeader("x"), ExitCode.UNAVAILABLE),
        (NotEnoughReplicas("x"), ExitCode.UNAVAILABLE),
        (DeadlineExceeded("x"), ExitCode.UNAVAILABLE),
        (Overloaded("x"), ExitCode.UNAVAILABLE),
        (StorageFull("x"), ExitCode.UNAVAILABLE),
        (UnknownTopic("x"), ExitCode.REFUSED),
        (AlreadyExists("x"), ExitCode.REFUSED),
        (InvalidArgument("x"), ExitCode.REFUSED),
        (DataLoss("x"), ExitCode.FAILED),
        (InternalError("x"), ExitCode.FAILED),
        (ConfigError("cluster.yml", ["x"]), ExitCode.USAGE),
        (CommandError("x", code=ExitCode.USAGE), ExitCode.USAGE),
        (ValueError("x"), ExitCode.FAILED),
    ],
)
def test_an_error_has_its_exit_code(error: Exception, code: ExitCode) -> None:
    assert exits.explain(error).code is code


def test_the_outcome_is_told_unless_nothing_happened() -> None:
    assert exits.explain(NoLeader("none")).message == "NO_LEADER: none"
    assert exits.explain(LeadershipLost("gone")).message == "LEADERSHIP_LOST: gone (it may have happened)"
    applied = DeadlineExceeded("late", outcome=Outcome.APPLIED)
    assert exits.explain(applied).message == "DEADLINE_EXCEEDED: late (it has happened)"


def test_what_nobody_foresaw_is_called_a_bug() -> None:
    told = exits.explain(ZeroDivisionError("division by zero"))
    assert told.message == "ZeroDivisionError: division by zero"
    assert "RAFTMQ_DEBUG=1" in told.hint


@pytest.mark.parametrize("cls", [cls for _, cls in sorted(RaftmqError.by_reason.items())])
def test_every_error_of_the_tree_is_explained(cls: type[RaftmqError]) -> None:
    told = exits.explain(cls("x"))
    assert told.message.startswith(f"{cls.reason}: x")
    assert told.code in (ExitCode.FAILED, ExitCode.UNAVAILABLE, ExitCode.REFUSED)
