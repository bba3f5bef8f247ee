"""A comparison with a plan that was made by hand, for the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from fx2ttnn.report.compare import PREDICTED, Comparison, Line, Row
from fx2ttnn.report.text import plural

EVEN = 0.05  # microseconds that are no difference
MOST = 3  # lines that the summary names


def render(found: Comparison) -> Iterator[RenderableType]:
    """The layer part by part, the sums, and what the plan says of its times."""
    plan = found.plan
    users = plural(plan.users, "user")
    title = f"{found.title}, {found.layer}, beside {plan.model} on {plan.target} by hand: {users}, {plan.context} tokens each"
    table = Table(title=escape(title), title_justify="left")
    table.add_column("part of the layer", max_width=25)
    for name in ("ours, predicted", "by hand, published"):
        table.add_column(name, overflow="fold")
        table.add_column("µs", justify="right", no_wrap=True)
    table.add_column("ours is", max_width=30)
    for row in found.rows:
        sides = zip_longest(row.ours, row.theirs)
        for index, (ours, theirs) in enumerate(sides):
            first, last = (", ".join(row.parts), _verdict(row)) if index == 0 else ("", "")
            cells = (first, *_cells(ours), *_cells(theirs), last)
            table.add_row(*map(escape, cells), style="red" if row.slower_by > EVEN else None)
        table.add_section()
    yield table
    yield _sums(found)
    yield Text(_summary(found))
    for text in (*found.remarks, *plan.notes):
        yield Text(f"Note: {text}")
    yield Text(
        "All times have the gaps before their operations. Ours are predicted (docs/cost_model.md), no measurement."
    )


def _summary(found: Comparison) -> str:
    """In how many lines ours is slower and faster, by how much in all, and where most."""
    slower = sorted((row for row in found.rows if row.slower_by > EVEN), key=lambda row: -row.slower_by)
    faster = [row for row in found.rows if row.slower_by < -EVEN]
    most = "; ".join(f"{', '.join(row.parts)} {row.slower_by:.1f}" for row in slower[:MOST])
    text = f"Ours is slower in {plural(len(slower), 'line')} by {sum(row.slower_by for row in slower):.1f} µs a layer"
    text += f" (most: {most})" if slower else ""
    return f"{text}, faster in {len(faster)} by {-sum(row.slower_by for row in faster):.1f}."


def _sums(found: Comparison) -> Table:
    plan = found.plan
    table = Table("sums, ms", "ours, predicted", "by hand, published", "difference")
    layers = (found.ours_layer_us, plan.layer_us)
    rows = [
        ("a layer", *layers),
        ("what stands around the layers", found.ours_tail_us, plan.tail_us),
        (
            f"a step of {found.layers} and {plan.layers} layers, added up",
            found.ours_step_us,
            plan.layers * plan.layer_us + plan.tail_us,
        ),
        (f"a step, by hand as in {plan.step_source}", found.ours_step_us, plan.step_us),
    ]
    for name, ours, theirs in rows:
        table.add_row(escape(name), f"{ours / 1e3:.3f}", f"{theirs / 1e3:.3f}", f"{(ours - theirs) / 1e3:+.3f}")
    return table


def _cells(line: Line | None) -> tuple[str, str]:
    """`Matmul 32x5120x800 bfloat8_b` and its time, with what kind of figure that is where it is no plain one."""
    if line is None:
        return "", ""
    many = f"{line.count} operations, " if line.count > 1 else ""
    kind = "" if line.time in (PREDICTED, "measured") else f"{line.time} "
    words = (f"{many}{line.name}", "x".join(map(str, line.bare_shape)), line.dtype)
    return " ".join(filter(None, words)), f"{kind}{line.us:.2f}"


def _verdict(row: Row) -> str:
    """How much slower or faster, and what is not alike."""
    if not row.theirs:
        return f"slower by {row.ours_us:.2f}: by hand none"
    if not row.ours:
        return f"faster by {row.theirs_us:.2f}: has none"
    by = row.slower_by
    word = "even" if abs(by) <= EVEN else f"slower by {by:.2f}" if by > 0 else f"faster by {-by:.2f}"
    if by < -EVEN and any(line.time == "bound" for line in row.theirs):
        word += ", than a bound"
    return "; ".join([word, *row.unlike])
