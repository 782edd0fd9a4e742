"""File systems of their own for single nodes, so that a disk can be full, or lose its power, for one of them alone."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

SMALL_BYTES = 512 * 1024 * 1024
IMAGE_BYTES = 1024 * 1024 * 1024
"""Of a sparse file: what is not written takes no room."""
BALLAST = "ballast"

_EXT4_IOC_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = 2
"""Neither data nor journal is written any more: what a power cut does. (1 would flush the journal first.)"""


def mount_small(directory: Path) -> str:
    """Put a small file system in memory at `directory`. Returns why it cannot be done, or ""."""
    if reason := _needs_root():
        return reason
    directory.mkdir(parents=True, exist_ok=True)
    return _run(["mount", "-t", "tmpfs", "-o", f"size={SMALL_BYTES},mode=0700", "raftmq-chaos", str(directory)])


def mount_image(directory: Path) -> str:
    """Put an ext4 file system at `directory`, on an image file beside it. Returns why it cannot be done, or ""."""
    if reason := _needs_root():
        return reason
    image = _image(directory)
    with image.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    if reason := _run(["mkfs.ext4", "-q", "-F", str(image)]):
        return reason
    directory.mkdir(parents=True, exist_ok=True)
    if reason := _run(["mount", "-o", "loop", str(image), str(directory)]):
        return reason
    # It is for disks that lost their names; a data directory holds nothing that is not the node's.
    shutil.rmtree(directory / "lost+found", ignore_errors=True)
    directory.chmod(0o700)
    return ""


def cut_power(directory: Path) -> None:
    """From this moment nothing reaches the image any more. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, _EXT4_IOC_SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
    finally:
        os.close(descriptor)


def restore_power(directory: Path) -> None:
    """Mount the image again, as after a restart. Nobody may have a file open. Raises OSError."""
    for command in (["umount", str(directory)], ["mount", "-o", "loop", str(_image(directory)), str(directory)]):
        if reason := _run(command):
            raise OSError(reason)


def unmount(directory: Path) -> None:
    """Keep what is there, and give the file system back."""
    kept = directory.with_name(directory.name + ".kept")
    shutil.copytree(directory, kept, ignore=shutil.ignore_patterns(BALLAST), dirs_exist_ok=True)
    _run(["umount", str(directory)])
    shutil.copytree(kept, directory, dirs_exist_ok=True)
    shutil.rmtree(kept)
    _image(directory).unlink(missing_ok=True)


def _image(directory: Path) -> Path:
    return directory.with_name(directory.name + ".image")


def _needs_root() -> str:
    return "" if os.geteuid() == 0 else "mounting a file system takes root"


def _run(command: Sequence[str]) -> str:
    """Empty if it worked, else why not."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError as error:
        return f"{command[0]}: {error.strerror}"
    return f"{command[0]}: {done.stderr.strip()}" if done.returncode else ""
