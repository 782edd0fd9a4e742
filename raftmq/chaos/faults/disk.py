"""Disks that are full, and files that are not what they were when the node stopped."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from raftmq.chaos import disks
from raftmq.chaos.arena import Means
from raftmq.chaos.faults.base import Fault, NotAsPlanned, ended, named
from raftmq.chaos.plans import Damage, DiskFull, PowerCut
from raftmq.ids import NodeId

OWN_FILE_SYSTEM = "a file system of the node's own"
STOPS_SECONDS = 5.0
COMES_UP_SECONDS = 20.0
SYNCED, UNSYNCED = "chaos-synced", "chaos-unsynced"
_PATTERNS = {"wal": "*.log", "sst": "*.sst", "manifest": "MANIFEST-*", "current": "CURRENT", "marker": "marker"}


class DiskFullFault(Fault[DiskFull]):
    """Proof: a write of our own beside the node's files meets ENOSPC, or there is no more left than there was to be. A
    node that meets ENOSPC stops; healed, it is started again.
    """

    means = OWN_FILE_SYSTEM

    @classmethod
    def available(cls, plan: DiskFull, means: Means) -> str | None:
        return means.why_no_disks or None

    @property
    def title(self) -> str:
        nearly = "nearly " if self.plan.leave_bytes else ""
        return f"disk {nearly}full on node {self.plan.target}"

    async def inject(self) -> None:
        node = NodeId(self.plan.target)
        if self.plan.leave_bytes:
            self.proof.fired = await asyncio.to_thread(_fill_up_to, self._ballast, self.plan.leave_bytes)
        else:
            self.proof.fired = await asyncio.to_thread(_fill, self._ballast)
        self.proof.evidence |= {
            "ballast_bytes": self._ballast.stat().st_size,
            "free_bytes": _free_bytes(self._ballast),
            "node_stopped": await ended(self.arena.processes, node, STOPS_SECONDS),
        }

    async def heal(self) -> None:
        self._ballast.unlink(missing_ok=True)
        if self.arena.processes.pid(NodeId(self.plan.target)) is None:
            await self.arena.processes.start(NodeId(self.plan.target))

    @property
    def _ballast(self) -> Path:
        return self.arena.topology.config.node(self.plan.target).data_directory / disks.BALLAST


def _fill(path: Path) -> bool:
    """Write until there is no room. True where there was none in the end."""
    with path.open("ab", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    return False
    return True


def _free_bytes(beside: Path) -> int:
    there = os.statvfs(beside.parent)
    return there.f_bavail * there.f_frsize


def _fill_up_to(path: Path, left: int) -> bool:
    """Write until no more than `left` bytes are free. True where that was reached."""
    with path.open("ab", buffering=0) as file:
        while (free := _free_bytes(path)) > left:
            file.write(bytes(min(1 << 20, free - left)))
    return _free_bytes(path) <= left


class PowerCutFault(Fault[PowerCut]):
    """Proof: of two files written just before, the one that was not synced is gone afterwards, the other is not."""

    means = OWN_FILE_SYSTEM

    _targets: tuple[NodeId, ...] = ()

    @classmethod
    def available(cls, plan: PowerCut, means: Means) -> str | None:
        return means.why_no_disks or None

    @property
    def title(self) -> str:
        return f"power cut of {named(self._targets) or self.plan.target}"

    async def inject(self) -> None:
        self._targets = self.arena.choose(self.plan.target)
        directories = [self._directory(node) for node in self._targets]
        await asyncio.to_thread(_leave_traces, directories)
        for directory in directories:
            disks.cut_power(directory)
        await asyncio.gather(*(self.arena.processes.kill(node) for node in self._targets))

    async def heal(self) -> None:
        lost = {}
        for node in self._targets:
            await asyncio.to_thread(disks.restore_power, self._directory(node))
            lost[str(node)] = await asyncio.to_thread(_read_traces, self._directory(node))
        self.proof.evidence["files_after"] = lost
        self.proof.fired = bool(lost) and all(found == [SYNCED] for found in lost.values())
        for node in self._targets:
            await self.arena.processes.start(node)

    def _directory(self, node: NodeId) -> Path:
        return self.arena.topology.config.node(node).data_directory


def _leave_traces(directories: Sequence[Path]) -> None:
    for directory in directories:
        with (directory / SYNCED).open("wb") as file:
            file.write(b"x")
            file.flush()
            os.fsync(file.fileno())
        (directory / UNSYNCED).write_bytes(b"x")


def _read_traces(directory: Path) -> list[str]:
    """Which of the two are there. They are removed: a node lets nothing strange lie in its directory."""
    found = []
    for name in (SYNCED, UNSYNCED):
        path = directory / name
        if path.exists():
            if path.stat().st_size:
                found.append(name)
            path.unlink()
    return found


class DamageFault(Fault[Damage]):
    """Proof: the file is another one than before. The node may refuse to start: the others must do without it."""

    means = "damaged files"
    _target: NodeId | None = None

    @property
    def title(self) -> str:
        where = "the directory" if self.plan.what == "wipe" else f"a {self.plan.file} file"
        return f"{self.plan.what} {where} of {named((self._target,)) if self._target else self.plan.target}"

    async def inject(self) -> None:
        (node,) = self.arena.choose(self.plan.target)
        directory = self.arena.topology.config.node(node).data_directory
        self._target = node
        await self.arena.processes.kill(node)
        self.proof.evidence["node"] = node
        if self.plan.what == "wipe":
            files = sum(1 for path in directory.rglob("*") if path.is_file())
            await asyncio.to_thread(shutil.rmtree, directory)
            self.proof.evidence["files_gone"] = files
            self.proof.fired = files > 0 and not directory.exists()
            return
        path = _choose(directory, self.plan.file)
        before = path.read_bytes()
        self.proof.evidence |= {"file": path.name, **_damage(path, self.plan.what)}
        self.proof.fired = not path.exists() or path.read_bytes() != before

    async def heal(self) -> None:
        node, processes = self._target, self.arena.processes
        if node is None or processes.pid(node) is not None:
            return
        await processes.start(node)
        deadline = asyncio.get_running_loop().time() + COMES_UP_SECONDS
        while processes.pid(node) is not None and not self.arena.observer.answering[node]:
            if asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(0.1)
        came_back = self.arena.observer.answering[node]
        self.proof.evidence["came_back"] = came_back
        self.proof.evidence["said_of_its_disk"] = _last_line(processes.log_file(node), "disk")
        self.proof.evidence["said_last"] = _last_line(processes.log_file(node))
        if not came_back:
            self.arena.given_up.add(node)


def _choose(directory: Path, kind: str) -> Path:
    """The largest file of a kind. Raises NotAsPlanned where there is none."""
    found = [p for p in directory.rglob(_PATTERNS[kind]) if p.is_file() and (p.stat().st_size or kind == "current")]
    if not found:
        raise NotAsPlanned(f"{directory.name} has no {kind} file")
    return max(sorted(found), key=lambda path: path.stat().st_size)


def _damage(path: Path, what: str) -> dict[str, int]:
    size = path.stat().st_size
    if what == "delete":
        path.unlink()
        return {"bytes_gone": size}
    if what == "truncate":
        os.truncate(path, size // 2)
        return {"bytes_gone": size - size // 2}
    with path.open("r+b") as file:
        at = _written_bytes(file.read()) // 2
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 0x10]))
        file.flush()
        os.fsync(file.fileno())
    return {"bit_flipped_at": at, "of_bytes": size}


def _written_bytes(content: bytes) -> int:
    """Where the zeros begin that a file was made longer with in advance."""
    return max(1, len(content.rstrip(b"\0")))


def _last_line(log: Path, word: str = "") -> str:
    """The last line of a log, or the last one with `word` in it."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if word in line]
    return lines[-1][:300] if lines else ""
