"""From a Python stack to the emitted line that is to blame, and to the rule that made it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

Frame = tuple[str, int]  # a file below the package's folder, and a line in it


def package_frames(frames: Sequence[tuple[str, int]], folder: Path) -> list[Frame]:
    """Those of `frames` (absolute file, line) that lie in the package."""
    found = []
    for name, line in frames:
        path = Path(name)
        if path.is_relative_to(folder):
            found.append((path.relative_to(folder).as_posix(), line))
    return found


def locate(
    frames: Sequence[Frame], folder: Path, module_files: set[str], provenance: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """`file`, `line`, `call` and `rule` for a stack within the package, outermost frame first.

    The innermost line that a rule made; failing that the innermost in a module's file: mesh.py, ccl.py and weights.py
    serve all modules, and their lines say little.
    """
    for file, line in reversed(frames):
        row = _row(file, line, provenance)
        if row is not None:
            return {"file": file, "line": line, "call": row["ttnn"], "rule": row["rule"]}
    for file, line in [f for f in reversed(frames) if f[0] in module_files] or list(reversed(frames)):
        return {"file": file, "line": line, "call": _source_line(folder / file, line), "rule": None}
    return {}


def _row(file: str, line: int, provenance: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    for row in provenance:
        if row["file"] == file and row["lines"][0] <= line <= row["lines"][1]:
            return row
    return None


def _source_line(path: Path, line: int) -> str | None:
    lines = path.read_text().splitlines() if path.is_file() else []
    return lines[line - 1].strip() if 0 < line <= len(lines) else None
