"""How a command ends: the exit codes that scripts may rely on, and the words for each error.

No traceback reaches a user, unless RAFTMQ_DEBUG=1 asks for it.
"""

from __future__ import annotations

import os
from enum import IntEnum

from raftmq.config import ConfigError
from raftmq.errors import (
    AlreadyExists,
    DataLoss,
    DeadlineExceeded,
    GroupNotEmpty,
    InternalError,
    MessageTooLarge,
    NotEnoughReplicas,
    Outcome,
    Overloaded,
    RaftmqError,
    StorageFull,
    Unavailable,
    UnknownBinding,
    UnknownExchange,
    UnknownGroup,
    UnknownNode,
    UnknownOperation,
    UnknownPartition,
    UnknownQueueGroup,
    UnknownTopic,
    Unroutable,
)

DEBUG_VARIABLE = "RAFTMQ_DEBUG"


class ExitCode(IntEnum):
    OK = 0
    FAILED = 1
    USAGE = 2
    UNAVAILABLE = 3
    REFUSED = 4
    INTERRUPTED = 130


EXIT_CODES_HELP = """\b
Exit codes:
  0  done
  1  a check failed, or raftmq itself did
  2  wrong usage or configuration
  3  the cluster cannot be reached, or cannot do it now
  4  the cluster refuses it (not found, exists already, ...)
"""


class CommandError(Exception):
    """A command cannot go on. ``hint`` says what to do next."""

    def __init__(self, message: str, *, hint: str = "", code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code


_HINTS: tuple[tuple[type[RaftmqError], str], ...] = (
    (UnknownTopic, "'raftmq topic list' shows the topics; 'raftmq topic create NAME' makes one"),
    (UnknownPartition, "'raftmq topic describe NAME' shows the partitions"),
    (AlreadyExists, "'raftmq topic describe NAME' and 'raftmq cluster status' show what there is"),
    (UnknownGroup, "'raftmq group list' shows those that have members or committed offsets"),
    (GroupNotEmpty, "stop its members first; 'raftmq group describe GROUP' shows them"),
    (UnknownQueueGroup, "'raftmq queue list TOPIC' shows them; the first 'raftmq queue receive' makes one"),
    (UnknownExchange, "'raftmq exchange list' shows them; 'raftmq exchange declare NAME --kind KIND' makes one"),
    (UnknownBinding, "'raftmq exchange list' shows the bindings: name one as it stands there"),
    (Unroutable, "'raftmq exchange trace EXCHANGE --routing-key KEY' shows why"),
    (UnknownOperation, "'raftmq cluster operations' shows them"),
    (UnknownNode, "'raftmq cluster status' shows the nodes"),
    (NotEnoughReplicas, "'raftmq cluster status' shows which nodes are away; it works again when they are back"),
    (MessageTooLarge, "send smaller batches, or raise limits.max_batch_bytes or the topic's max_batch_bytes"),
    (StorageFull, "'raftmq cluster status' shows which disks are low; delete topics, shorten retention, or add space"),
    (Overloaded, "send more slowly, or try again in a moment"),
    (DeadlineExceeded, "'raftmq cluster status' shows whether a quorum is there"),
    (DataLoss, "the node's log names the damaged entry; a copy on another node may be whole"),
    (InternalError, "this is a bug: please report it with the id and the node's log"),
    (Unavailable, "is it running? 'raftmq up' starts the nodes; --bootstrap HOST:PORT asks others"),
)


def explain(error: Exception) -> CommandError:
    """The words and exit code for an error; for one that nobody foresaw, those of a bug."""
    if isinstance(error, CommandError):
        return error
    if isinstance(error, ConfigError):
        return CommandError(str(error), code=ExitCode.USAGE)
    if isinstance(error, RaftmqError):
        hint = next((hint for cls, hint in _HINTS if isinstance(error, cls)), "")
        applied = {Outcome.UNKNOWN: " (it may have happened)", Outcome.APPLIED: " (it has happened)"}
        return CommandError(
            f"{error.reason}: {error.message}{applied.get(error.outcome, '')}", hint=hint, code=_code(error)
        )
    return CommandError(
        f"{type(error).__name__}: {error}",
        hint=f"this is a bug in raftmq: {DEBUG_VARIABLE}=1 shows where",
        code=ExitCode.FAILED,
    )


def debugging() -> bool:
    return os.environ.get(DEBUG_VARIABLE, "") not in ("", "0")


def _code(error: RaftmqError) -> ExitCode:
    if isinstance(error, (Unavailable, DeadlineExceeded, Overloaded, StorageFull)):
        return ExitCode.UNAVAILABLE
    if isinstance(error, (DataLoss, InternalError)):
        return ExitCode.FAILED
    return ExitCode.REFUSED
