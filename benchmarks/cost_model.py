"""Predicted times beside published ones: writes the tables of docs/cost_model.md (its text stays). Usage: python benchmarks/cost_model.py"""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from fx2ttnn.cost.calibration import Comparison, grouped, spread

PAGE = Path(__file__).parents[1] / "docs/cost_model.md"
MARK = "<!-- tables of benchmarks/cost_model.py -->\n"
FEW = 25  # a longer group is a line for each kind


def main() -> None:
    """Replace what stands behind the mark."""
    text = PAGE.read_text()
    PAGE.write_text(text[: text.index(MARK) + len(MARK)] + "\n" + tables())


def tables() -> str:
    """One table for each group, fits before what was held out."""
    groups = sorted(grouped().items(), key=lambda item: (item[0][1], item[0][0]))
    return "\n".join(_table(group, held_out, ones) for (group, held_out), ones in groups)


def _table(group: str, held_out: bool, ones: list[Comparison]) -> str:
    mean, rms = spread(ones)
    head = f"### {group[0].upper()}{group[1:]}: {'held out' if held_out else 'fitted'}\n\n{len(ones)} rows, mean error {mean:+.1%}, root mean square {rms:.1%}.\n"
    rows = [_row(one) for one in ones] if len(ones) <= FEW else _kinds(ones)
    return "\n".join([head, "| | published, us | predicted, us | error | rows |", "|---|---|---|---|---|", *rows, ""])


def _row(one: Comparison) -> str:
    rows = ", ".join(map(str, one.rows))
    return f"| {one.name} | {one.published:.5g} | {one.predicted:.5g} | {one.error:+.1%} | {rows} |"


def _kinds(ones: list[Comparison]) -> list[str]:
    """A line for each kind: how far off its sizes are."""
    lines = []
    for kind, members in groupby(
        sorted(ones, key=lambda one: one.name.rpartition(", ")[0]), lambda one: one.name.rpartition(", ")[0]
    ):
        some = sorted(members, key=lambda one: one.error)
        least, most = some[0], some[-1]
        rows = [row for one in some for row in one.rows]
        lines.append(
            f"| {kind}, {len(some)} sizes | {min(o.published for o in some):.5g} to {max(o.published for o in some):.5g} |"
            f" {min(o.predicted for o in some):.5g} to {max(o.predicted for o in some):.5g} |"
            f" {least.error:+.0%} ({least.name.rpartition(', ')[2]}) to {most.error:+.0%} ({most.name.rpartition(', ')[2]}) | {min(rows)} to {max(rows)} |"
        )
    return lines


if __name__ == "__main__":
    main()
