"""What the system knows of ports and processes: who listens where, whose pid is it, has it ended."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

from raftmq.config import Address

_LISTEN = "0A"  # the kernel's number of the TCP state, as /proc/net/tcp prints it


def is_free(address: Address) -> bool:
    """Whether a listener could be opened here now.

    The probe sets SO_REUSEADDR, so that connections of a node that has just ended do not count, and leaves
    SO_REUSEPORT unset, so that a listener which shares its port does.
    """
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, address.port))
            probe.listen(1)
        except OSError:
            return False
    return True


def holder(port: int) -> str | None:
    """``pid 123 (python -m something)`` of the process that listens on a TCP port.

    None where the system does not say: no /proc, or a process of somebody else.
    """
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    if not sockets:
        return None
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal():
            continue
        with suppress(OSError):  # ended meanwhile, or not ours to look into
            if any(os.readlink(link) in sockets for link in (process / "fd").iterdir()):
                return f"pid {process.name} ({command_line(int(process.name))})"
    return None


def command_line(pid: int) -> str:
    """A process's command line with blanks between the arguments; empty if there is none to be read."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def has_ended(pid: int) -> bool:
    """Whether a process has let go of all it had. (Its command line is gone a moment before its sockets are.)"""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state in ("Z", "X")


def _listening_inodes(port: int) -> set[str]:
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with suppress(OSError):
            for line in Path(table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(fields[9])
    return inodes
