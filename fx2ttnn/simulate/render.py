"""A simulation as tables for the terminal."""

from __future__ import annotations

from rich.table import Table

from fx2ttnn.simulate.result import PASSED, STATEMENT, Run, Simulation


def render(found: Simulation) -> list[Table | str]:
    """What did not pass, each in full, and the counts."""
    parts: list[Table | str] = []
    if rest := [run for run in found.runs if run.outcome != PASSED]:
        table = Table("test", "outcome", "seconds", "detail")
        for run in rest:
            table.add_row(run.test, run.outcome, f"{run.seconds:.0f}", run.detail)
        parts.append(table)
    counts = ", ".join(f"{n} {outcome}" for outcome, n in found.count().most_common())
    seconds = sum(run.seconds for run in found.runs)
    parts.append(f"{found.model} on {found.target}, {found.simulator}, ttnn {found.ttnn}: {counts} in {seconds:.0f} s")
    parts.append(STATEMENT)
    return parts


def line(run: Run) -> str:
    """One run as it ends."""
    pcc = "" if run.pcc is None else f" PCC {run.pcc:.6f}"
    detail = f": {run.detail}" if run.detail else ""
    return f"{run.outcome:>12} {run.seconds:6.0f} s {run.test}{pcc}{detail}"
