"""Which rule and captured operation stand behind each emitted line."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from fx2ttnn.emit.units import Unit
from fx2ttnn.lower.values import Call
from fx2ttnn.names import layer_of


def provenance(folder: Path, root: Unit) -> list[dict[str, Any]]:
    """For each statement of a `forward`: file, first and last line, the ttnn op, rule row, captured nodes and reason."""
    units = {unit.class_name: unit for unit in reversed(root.tree())}.values()  # the first of each class
    rows = [row for unit in units for mode in unit.bodies for row in _rows(folder, unit, mode)]
    return sorted(rows, key=lambda row: (row["file"], row["lines"]))


def _rows(folder: Path, unit: Unit, mode: str) -> list[dict[str, Any]]:
    """The rows of one forward."""
    statements = _forward_statements(folder / f"{unit.file}.py", unit.class_name, f"{mode}_forward")
    items = [i for i in unit.bodies[mode].items if isinstance(i, Call) or unit.path or layer_of(i.path) != i.path]
    calls = zip((s for s in statements if not _is_no_call(s)), items, strict=False)
    return [_row(unit, mode, statement, item) for statement, item in calls if isinstance(item, Call)]


def _row(unit: Unit, mode: str, statement: ast.stmt, call: Call) -> dict[str, Any]:
    return {
        "file": f"{unit.file}.py",
        "lines": [statement.lineno, statement.end_lineno],
        "mode": mode,
        "ttnn": call.function,
        "rule": call.rule,
        "op": call.op.name,
        "module": call.op.module,
        "sources": list(call.op.sources),
        "why": " ".join(call.why.split()),
    }


def _is_no_call(statement: ast.stmt) -> bool:
    """The docstring, the line that reads the length of the chunk, or the loop over the layers."""
    if isinstance(statement, ast.For):
        return True
    docstring = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return docstring or (isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "seq_len")


def _forward_statements(path: Path, class_name: str, method: str) -> list[ast.stmt]:
    tree = ast.parse(path.read_text())
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == class_name:
            for member in node.body:
                if isinstance(member, ast.FunctionDef) and member.name == method:
                    return member.body
    return []
