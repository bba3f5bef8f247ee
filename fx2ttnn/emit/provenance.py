"""Which rule and captured operation stand behind each emitted line."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from fx2ttnn.emit.code import Writer
from fx2ttnn.emit.units import Unit
from fx2ttnn.lower.values import Call


def provenance(folder: Path, root: Unit, writer: Writer) -> list[dict[str, Any]]:
    """For each statement of a `forward`: file, first and last line, the ttnn op, rule row, captured nodes and reason."""
    found: list[dict[str, Any]] = []
    seen: set[str] = set()

    def visit(unit: Unit) -> None:
        for child in unit.children:
            visit(child)
        if not unit.path or unit.class_name in seen:
            return
        seen.add(unit.class_name)
        statements = _forward_statements(folder / f"{unit.file}.py", unit.class_name)
        for statement, item in zip(statements, unit.items, strict=False):
            if isinstance(item, Call):
                found.append(
                    {
                        "file": f"{unit.file}.py",
                        "lines": [statement.lineno, statement.end_lineno],
                        "ttnn": item.function,
                        "rule": item.rule,
                        "op": item.op.name,
                        "module": item.op.module,
                        "sources": list(item.op.sources),
                        "why": " ".join(item.why.split()),
                    }
                )

    visit(root)
    return sorted(found, key=lambda row: (row["file"], row["lines"]))


def _forward_statements(path: Path, class_name: str) -> list[ast.stmt]:
    tree = ast.parse(path.read_text())
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == class_name:
            for member in node.body:
                if isinstance(member, ast.FunctionDef) and member.name == "forward":
                    return member.body
    return []
