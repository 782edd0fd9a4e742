"""What replicas that were removed from this disk had promised, for as long as their groups live on.

Members are named by node and disk, so a replica that returns is to everybody the one that was here before. But it
begins with nothing. A member that missed the change of configuration still counts it as a voter: it might win an
election with the vote of an empty log, or a deposed leader might commit with the help of one that forgot the newer
term. So the term is kept when the data goes, and a replica that returns begins in that term, suspect: without a vote
until a leader has brought it up to date.

Its term need not be raised, unlike that of a disk that lost its tail. All that the one before acknowledged, it
acknowledged in this term or in earlier ones, so that a leader of this term or a later one that has committed in its
own holds all of it that was committed. And whoever else asks for a vote in this very term has no entry of it, and is
refused by a log that has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from google.protobuf.message import DecodeError

from raftmq.ids import GroupId, Term
from raftmq.internal.v1 import storage_pb2
from raftmq.ports import PutNode, StorageError, Store, WriteOp

KEY = "departed"


class Departed:
    """``write`` puts something into the next round."""

    def __init__(self, store: Store, write: Callable[[list[WriteOp]], None]) -> None:
        """Raises StorageError."""
        self._write = write
        self._terms: dict[GroupId, Term] = {}
        row = store.node_value(KEY)
        if row is None:
            return
        try:
            message = storage_pb2.DepartedRow.FromString(row)
        except DecodeError as error:
            raise StorageError(f"the row of replicas that were removed cannot be read: {error}") from error
        self._terms = {GroupId(each.group): Term(each.term) for each in message.replicas}

    def term(self, group: GroupId) -> Term | None:
        """The highest term of the replica that was here. None: none was."""
        return self._terms.get(group)

    @property
    def groups(self) -> list[GroupId]:
        return sorted(self._terms)

    def left(self, group: GroupId, term: Term) -> None:
        """A replica is removed in this round."""
        self._terms[group] = max(term, self._terms.get(group, Term(0)))
        self._put()

    def forget(self, groups: Iterable[GroupId]) -> None:
        """These groups are no more."""
        if [group for group in groups if self._terms.pop(group, None) is not None]:
            self._put()

    def _put(self) -> None:
        message = storage_pb2.DepartedRow()
        for group, term in sorted(self._terms.items()):
            message.replicas.add(group=group, term=term)
        self._write([PutNode(KEY, message.SerializeToString(deterministic=True))])
