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
    statements = _forward_statements(folder / f"{unit.file}.py", unit.class_name, mode)
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
    """The docstring, the line that reads the length of the chunk, the loop over the layers, and what concerns the prefetcher."""
    if isinstance(statement, ast.For | ast.Return):
        return True
    words = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    opening = isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "seq_len"
    return words or opening or ast.unparse(statement).startswith("self.prefetcher.")


def _forward_statements(path: Path, class_name: str, mode: str) -> list[ast.stmt]:
    """Those of a forward; of the model's, where a method of that name only chooses or puts parts together, those of what it calls."""
    classes = (node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef))
    members = next(node.body for node in classes if node.name == class_name)
    methods = {member.name: member.body for member in members if isinstance(member, ast.FunctionDef)}
    if mode == "decode" and "decode_embed" in methods:
        _, _, *logits = methods["decode_logits"]  # behind words and the move to where the first call reads
        return [*methods["decode_embed"], *logits]
    return methods.get(f"long_{mode}_forward") or methods.get(f"{mode}_forward", [])
