"""An explanation for the terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from fx2ttnn.lower.host import RULE as ON_HOST
from fx2ttnn.report.explain import Behind, Explanation
from fx2ttnn.report.table import statement_text, tensor_text, value_text
from fx2ttnn.report.text import plural, seconds


def render(found: Explanation) -> Iterator[RenderableType]:
    """The line's statement, then what stands behind it, or what it is and the ttnn call that is nearest to it."""
    yield Text(f"{found.file}:{found.line}", style="bold")
    yield _code(found.text)
    if found.behind:
        yield _table(found.behind)
        return
    yield Text(f"No ttnn call: {found.what}.")
    if found.nearest:
        yield Text(f"The nearest is {statement_text([found.nearest.row['file'], *found.nearest.row['lines']])}:")
        yield _code(found.nearest.statement)
        yield _table(found.nearest)


def _code(text: str) -> Syntax:
    return Syntax(text, "python", background_color="default", word_wrap=True)


def _table(behind: Behind) -> Table:
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _rows(behind):
        table.add_row(name, Text(value))
    return table


def _rows(behind: Behind) -> Iterator[tuple[str, str]]:
    row, node, call, part = behind.row, behind.node, behind.call, behind.part
    yield "ttnn", row["ttnn"]
    yield "rule", row["rule"] if row["rule"] == ON_HOST else f"lowering_rules/{row['rule']}"
    yield "why", row["why"]
    yield "operation", row["op"] + (f", for {node['op']}" if node and node["op"] != row["op"] else "")
    yield "captured", ", ".join(row["sources"]) or "nothing: the plan put it here"
    layers = f" and {plural(part['count'] - 1, 'equal layer')}" if part and part["count"] > 1 else ""
    yield "module", f"{row['module'] or 'the model itself'}{layers}, {row['mode']}"
    if call:
        for tensor in call["inputs"]:
            yield "reads", tensor_text(tensor)
        for tensor in call["outputs"]:
            yield "gives", tensor_text(tensor)
    if node:
        for value in (*node["inputs"], *node["outputs"]):
            yield "planned", value_text(value)
        if node["seconds"]:
            yield "predicted", f"{seconds(node['seconds'])} for {node['op']}, a cost model's"
    yield "test", behind.test.test_id if behind.test else "none found in tests/ops"
