"""The command line as a whole."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from raftmq.cli.main import VERBS, build

HEAVY = ("raftmq.sim", "raftmq.chaos", "raftmq.cli.bench", "raftmq.cli.demo")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_in_the_overview_and_explains_itself(verb: str) -> None:
    alone = CliRunner().invoke(build(), [verb, "--help"])
    assert alone.exit_code == 0, alone.output
    overview = CliRunner().invoke(build(), ["--help"])
    assert f" {verb} " in overview.output


def test_a_node_does_not_load_what_only_experiments_need() -> None:
    script = (
        "import sys; sys.argv = ['raftmq', 'serve', '--help']\n"
        "from raftmq.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"print([name for name in sys.modules if name.startswith({HEAVY!r})], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
