"""The cases of a package's op tests, read from its files: the report names them, and `explain` finds them by line."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Case:
    """One `Case(...)` of a file in tests/ops."""

    file: str
    name: str
    used: tuple[str, ...]
    first_line: int
    last_line: int

    @property
    def test_id(self) -> str:
        """pytest's name for it."""
        function = self.file.rsplit("/", 1)[-1].removesuffix(".py")
        return f"{self.file}::{function}[{self.name}]"


def cases(package: Path) -> Mapping[str, tuple[Case, ...]]:
    """By file, as `tests/ops/test_linear.py`; files that are no Python have none."""
    found = {}
    for path in sorted((package / "tests" / "ops").glob("test_*.py")):
        name = path.relative_to(package).as_posix()
        try:
            tree = ast.parse(path.read_text())
        except (OSError, ValueError, SyntaxError):
            continue
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _is_case(node)]
        found[name] = tuple(_case(name, call) for call in sorted(calls, key=lambda call: call.lineno))
    return found


def _is_case(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id == "Case"


def _case(file: str, call: ast.Call) -> Case:
    given = {k.arg: k.value for k in call.keywords}
    name = ast.literal_eval(given["name"]) if "name" in given else ""
    used = ast.literal_eval(given["used"]) if "used" in given else []
    return Case(file, name, tuple(used), call.lineno, call.end_lineno or call.lineno)
