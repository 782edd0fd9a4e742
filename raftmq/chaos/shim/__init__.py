"""The library that is preloaded into nodes: built by `cc` into the run's folder, and spoken to through mapped cells.

See ``shim.c`` for what it does and for the meaning of the cells.
"""

from __future__ import annotations

import shutil
import subprocess
from importlib import resources
from pathlib import Path

from raftmq.chaos.cells import Cells
from raftmq.chaos.shim.unsynced import Synced

FAIL_SYNCS, SLOW_SYNC_US, CLOCK_NS, FAIL_READS, SLOW_READ_US, DIE_BEFORE_SYNC, DIE_AFTER_SYNC, DIE_IN_WRITE = range(8)
CLOCK_RATE_PPM, NO_SPACE = 8, 9
FAILED, SLOWED, CHANGED, READS_FAILED, READS_SLOWED, DIED, RATED, REFUSED, NOT_KEPT = range(16, 25)


def why_missing() -> str | None:
    """What keeps this machine from it, or None."""
    return None if shutil.which("cc") else "no C compiler: 'cc' is not on PATH"


def build(directory: Path) -> Path:
    """Compile the library. Raises RuntimeError with the compiler's words."""
    source, library = directory / "shim.c", directory / "shim.so"
    source.write_text(resources.files(__name__).joinpath("shim.c").read_text(encoding="utf-8"))
    command = ["cc", "-O2", "-Wall", "-Wextra", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise RuntimeError(f"the shim cannot be built: {done.stderr.strip()}")
    return library


class Shim(Cells):
    """The cells of one node. They outlive its process. ``synced``, where asked for: the table of what it has synced."""

    def __init__(self, library: Path, path: Path, *, keeps_synced: bool = False) -> None:
        super().__init__(path, create=True)
        self._library = library
        self.synced = Synced(path.with_suffix(".synced")) if keeps_synced else None

    @property
    def environment(self) -> tuple[str, ...]:
        """Shell lines that preload it."""
        lines = [f'export LD_PRELOAD="{self._library}"', f'export RAFTMQ_CHAOS_SHIM="{self.path}"']
        if self.synced is not None:
            lines.append(f'export RAFTMQ_CHAOS_SYNCED="{self.synced.path}"')
        return tuple(lines)
