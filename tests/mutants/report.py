"""The table in chaos/README.md, made of the results."""

from __future__ import annotations

from pathlib import Path

from tests.mutants.gate import Found
from tests.mutants.table import Mutant

BEGIN = "<!-- mutants: begin -->"
END = "<!-- mutants: end -->"


def write_table(file: Path, rows: list[tuple[Mutant, Found]]) -> None:
    """Put the table between its marks."""
    text = file.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    file.write_text(f"{before}{BEGIN}\n{table(rows)}\n{END}{after}", encoding="utf-8")


def table(rows: list[tuple[Mutant, Found]]) -> str:
    """One row a mutant. What was not run is said to be so."""
    lines = ["| Area | Mutant | What is wrong | Simulation: seeds, check | Test |", "|---|---|---|---|---|"]
    for mutant, found in rows:
        lines.append(
            f"| {mutant.area} | `{mutant.name}` | {mutant.what} | {_simulated(found)} | {_tested(mutant, found)} |"
        )
    run = [found for _, found in rows if found.tried or found.tested]
    caught = sum(found.is_caught for found in run)
    sources = sorted({found.key.split()[0] for found in run})
    told = f"{len(rows)} mutants, {len(run)} of them run, {caught} caught; on source {', '.join(sources) or 'none'}."
    return "\n".join([*lines, "", told])


def _simulated(found: Found) -> str:
    if found.check:
        return f"{found.tried}: {found.check}"
    return f"not in {found.tried}" if found.tried else "not run"


def _tested(mutant: Mutant, found: Found) -> str:
    if not mutant.test:
        return ""
    name = mutant.test.rpartition("::")[2]
    return f"`{name}`" if found.tested == "caught" else f"`{name}`: {found.tested or 'not run'}"
