"""What machine this is: a figure without it means nothing."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

GIBIBYTE = 1024**3


def describe() -> str:
    """One sentence: cores, processor, memory, kernel, Python, and the libraries that matter."""
    cores = len(os.sched_getaffinity(0))
    libraries = ", ".join(f"{name} {version(name)}" for name in ("grpcio", "rocksdict", "uvloop"))
    return (
        f"{cores} core{'' if cores == 1 else 's'} of {_processor()}, {_memory_bytes() / GIBIBYTE:.0f} GiB memory, "
        f"Linux {platform.release()}, Python {platform.python_version()}, {libraries}"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.machine()


def _memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
