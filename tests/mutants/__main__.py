"""``python -m tests.mutants``: run the gate, and write down what it found."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from raftmq.sim.batch import source_hash
from tests.mutants.gate import ROOT, Found, Results, run_gate
from tests.mutants.report import write_table
from tests.mutants.table import Mutant, all_mutants

README = ROOT / "chaos" / "README.md"


def main() -> int:
    arguments = _arguments()
    known = all_mutants()
    chosen = [known[name] for name in arguments.only or known]
    results = Results(arguments.results)
    missed: list[str] = []
    for mutant, found in run_gate(chosen, results, arguments.jobs, arguments.seeds):
        print(_line(mutant, found), flush=True)
        if not found.is_caught:
            missed.append(mutant.name)
    if arguments.table:
        write_table(README, [(mutant, results.of(mutant, source_hash())) for mutant in known.values()])
    print(f"{len(chosen) - len(missed)} of {len(chosen)} mutants caught")
    if missed:
        print(f"NOT CAUGHT: {', '.join(missed)}")
    return 1 if missed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description="Are all known bugs caught?")
    parser.add_argument("--only", nargs="*", metavar="NAME", help="these mutants; else all")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one for each core)")
    parser.add_argument(
        "--seeds", type=int, metavar="N", help="of the simulation at most; else as many as a mutant asks for"
    )
    parser.add_argument("--results", type=Path, default=ROOT / "data" / "mutants.json", help="where results are kept")
    parser.add_argument("--table", action="store_true", help="write the table in chaos/README.md")
    return parser.parse_args()


def _line(mutant: Mutant, found: Found) -> str:
    simulated = f"seed {found.tried - 1}: {found.check}" if found.check else f"not in {found.tried} seeds"
    tested = f"; {mutant.test.rpartition('::')[2]} {found.tested}" if mutant.test else ""
    return f"{'caught' if found.is_caught else 'MISSED'}  {mutant.name}: {simulated}{tested}"


if __name__ == "__main__":
    sys.exit(main())
