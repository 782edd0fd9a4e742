"""The data directory: who owns it, what lies in it, who has it open.

::

    <data>/           mode 0700, locked (flock) while a store has it open
      marker          tail marker (marker.py); made before the database, so that its absence means something
      marker.new      a marker being made
      db/             RocksDB
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from raftmq.ports import StorageRefused
from raftmq.storage.marker import sync_directory

MARKER = "marker"
DATABASE = "db"
_OURS = frozenset({MARKER, MARKER + ".new", DATABASE})
_IGNORED = frozenset({"lost+found"})


class DataDirectory:
    """A directory that was checked and is locked by this process until ``release``."""

    def __init__(self, path: Path, *, create: bool = True) -> None:
        """Make the directory where there is none, and check it; or only lock it. Raises StorageRefused."""
        self.path = path
        try:
            if create:
                _make(path)
            self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise StorageRefused(
                f"{path} cannot be used as a data directory ({error.strerror}): name a real directory, not a "
                "link to one, that this user may write to"
            ) from error
        try:
            self._lock()
            if create:
                self._check()
        except BaseException:
            self.release()
            raise

    @property
    def marker(self) -> Path:
        return self.path / MARKER

    @property
    def database(self) -> Path:
        return self.path / DATABASE

    @property
    def has_database(self) -> bool:
        return os.path.lexists(self.database)

    @property
    def has_marker(self) -> bool:
        return os.path.lexists(self.marker)

    def release(self) -> None:
        """Give up the lock. Idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _lock(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StorageRefused(
                f"{self.path} is in use by a running process: stop that node first, or give this one a "
                "directory of its own"
            ) from None

    def _check(self) -> None:
        for problem in self.problems():
            raise StorageRefused(problem)
        if not self._names():
            os.fchmod(self._descriptor, 0o700)

    def problems(self) -> Iterator[str]:
        """Why a node must not work in this directory, each with what to do."""
        status, names = os.fstat(self._descriptor), self._names()
        if status.st_uid != os.geteuid():
            yield (
                f"{self.path} belongs to user {status.st_uid}, this process runs as {os.geteuid()}: start it as "
                "the owner, or change the owner (chown)"
            )
        if strange := sorted(names - _OURS):
            yield (
                f"{self.path} holds something that is not raftmq's ({', '.join(strange[:5])}): move it away, or "
                "name an empty directory"
            )
        for name in sorted(names):
            if stat.S_ISLNK(os.lstat(self.path / name).st_mode):
                yield f"{self.path / name} is a symbolic link: put the real thing in its place"
        if names and stat.S_IMODE(status.st_mode) & 0o077:
            yield f"{self.path} is open to other users: chmod 700 it"

    def _names(self) -> set[str]:
        return set(os.listdir(self._descriptor)) - _IGNORED


def _make(path: Path) -> None:
    """Make `path`, and its parents, durably; whatever the umask, `path` itself with mode 0700."""
    if os.path.lexists(path):
        return
    for missing in reversed([parent for parent in path.parents if not parent.exists()]):
        missing.mkdir(exist_ok=True)
        sync_directory(missing.parent)
    path.mkdir(mode=0o700, exist_ok=True)
    path.chmod(0o700)
    sync_directory(path.parent)
