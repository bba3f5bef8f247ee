"""What stands behind a line of a package: the captured operation, the rule and the reason, or what else the line is."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fx2ttnn.errors import UserError
from fx2ttnn.report.cases import Case, cases
from fx2ttnn.report.data import Report
from fx2ttnn.report.table import case_of

_WHAT = re.compile(r"^(?P<file>.+?):(?P<line>\d+)$")


@dataclass(frozen=True)
class Behind:
    """An emitted ttnn call and all that is known of it; `call`, `node` and `part` are of graph.json, `row` of provenance.json."""

    row: Mapping[str, Any]
    statement: str
    call: Mapping[str, Any] | None
    node: Mapping[str, Any] | None
    part: Mapping[str, Any] | None
    test: Case | None


@dataclass(frozen=True)
class Explanation:
    """Of one line: `text` is its statement, `what` says what it is where it is no ttnn call; `nearest` is then one that has to do with it."""

    file: str
    line: int
    text: str
    what: str
    behind: Behind | None
    nearest: Behind | None


def explain(report: Report, where: str) -> Explanation:
    """Explain `FILE:LINE` of a package; UserError where there is no such line."""
    path, line = _place(report.package, where)
    file = path.relative_to(report.package.resolve()).as_posix()
    source = _source(path)
    lines = source.splitlines()
    if not 1 <= line <= len(lines):
        raise UserError(f"{file} has {len(lines)} lines: there is no line {line}")
    found = cases(report.package)
    rows = [row for row in report.provenance if row["file"] == file]
    behind = next(
        (_behind(report, row, lines, found) for row in rows if row["lines"][0] <= line <= row["lines"][1]), None
    )
    if behind:
        return Explanation(file, line, behind.statement, "", behind, None)
    statement = _statement(path, source, line)
    text = _lines(lines, *_span(statement)) if statement else lines[line - 1]
    case = next((c for c in found.get(file, ()) if c.first_line <= line <= c.last_line), None)
    if case:
        tested = next(_tested(report, case, found), None)
        what = f"the op test {case.test_id}, used in {', '.join(case.used)}"
        return Explanation(file, line, _lines(lines, case.first_line, case.last_line), what, None, tested)
    near = _reader(rows, lines, statement) or _nearest(rows, line)
    what = _words(source, file, statement, line)
    return Explanation(file, line, text, what, None, _behind(report, near, lines, found) if near else None)


def _place(package: Path, where: str) -> tuple[Path, int]:
    """The file, inside the package, and the line: the file may be named from the package or from here."""
    match = _WHAT.match(where)
    if not match:
        raise UserError(f"{where!r} is not FILE:LINE, such as attention.py:28")
    root = package.resolve()
    for path in (root / match["file"], Path(match["file"])):
        if path.is_file() and path.resolve().is_relative_to(root):
            return path.resolve(), int(match["line"])
    raise UserError(f"{package} has no file {match['file']}")


def _source(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from error


def _behind(report: Report, row: Mapping[str, Any], lines: list[str], found: Mapping[str, tuple[Case, ...]]) -> Behind:
    statement = [row["file"], *row["lines"]]
    text = _lines(lines, *row["lines"])
    for part, node, call in _calls(report, row["mode"]):
        if call["statement"] == statement:
            return Behind(row, text, call, node, part, case_of(call, found))
    return Behind(row, text, None, None, None, None)


def _calls(report: Report, mode: str) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]]]:
    modes = {**report.graph["modes"], **report.graph.get("short_modes", {})}
    for part in modes.get(mode, {"parts": []})["parts"]:
        for node in part["nodes"]:
            for call in node["calls"]:
                yield part, node, call


def _tested(report: Report, case: Case, found: Mapping[str, tuple[Case, ...]]) -> Iterator[Behind]:
    """The emitted calls that a case tests."""
    for row in report.provenance:
        lines = _source(report.package / row["file"]).splitlines()
        behind = _behind(report, row, lines, found)
        if behind.test == case:
            yield behind


def _statement(path: Path, source: str, line: int) -> ast.stmt | None:
    """The innermost statement that holds a line."""
    if path.suffix != ".py":
        return None
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return None
    holding = [n for n in ast.walk(tree) if isinstance(n, ast.stmt) and n.lineno <= line <= (n.end_lineno or n.lineno)]
    inner = max(holding, key=lambda n: (n.lineno, -(n.end_lineno or n.lineno)), default=None)
    if isinstance(inner, ast.ClassDef | ast.FunctionDef) and line >= inner.body[0].lineno:
        return None  # an empty line between statements
    return inner


def _span(statement: ast.stmt) -> tuple[int, int]:
    """First and last line of a statement; of one that holds others, its head."""
    last = statement.end_lineno or statement.lineno
    body = getattr(statement, "body", None)
    return statement.lineno, max(statement.lineno, body[0].lineno - 1) if body else last


def _reader(
    rows: Sequence[Mapping[str, Any]], lines: list[str], statement: ast.stmt | None
) -> Mapping[str, Any] | None:
    """The first call of the same class that reads the attribute which a statement sets."""
    if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Attribute):
        return None
    used = re.compile(rf"\bself\.{re.escape(statement.targets[0].attr)}\b")
    after = (row for row in rows if row["lines"][0] > statement.lineno)
    return next((row for row in after if used.search(_lines(lines, *row["lines"]))), None)


def _nearest(rows: Sequence[Mapping[str, Any]], line: int) -> Mapping[str, Any] | None:
    """The call closest in the file."""
    distance = {id(row): min(abs(row["lines"][0] - line), abs(row["lines"][1] - line)) for row in rows}
    return min(rows, key=lambda row: (distance[id(row)], row["lines"]), default=None)


def _words(source: str, file: str, statement: ast.stmt | None, line: int) -> str:
    """What a line is that is no ttnn call."""
    inside = _inside(source, line) if file.endswith(".py") else ""
    where = f" in {inside}" if inside else ""
    match statement:
        case None:
            return f"no statement{where}"
        case ast.Import() | ast.ImportFrom():
            return "an import"
        case ast.ClassDef(name=name):
            return f"the head of class {name}"
        case ast.FunctionDef(name=name):
            return f"the head of {inside or name}"
        case ast.Return():
            return f"what{where.replace(' in ', ' ')} returns" if inside else "a return"
        case ast.Assign(targets=[ast.Attribute(attr=name)]) if "weights." in ast.unparse(statement.value):
            return f"loads the weight {name}{where}: what is in the checkpoint becomes a tensor on the mesh"
        case ast.Assign(targets=[ast.Attribute(attr=name)]):
            return f"makes {name}{where}"
        case ast.Assign(value=ast.Call(func=ast.Attribute(attr=name) as called)) if name.endswith("forward"):
            return f"runs the module {ast.unparse(called.value).removeprefix('self.')}{where}"
        case ast.Expr(value=ast.Constant(value=str())):
            return f"a docstring{where}"
    return f"a statement of the scaffolding, from a template of fx2ttnn{where}"


def _inside(source: str, line: int) -> str:
    """`Qwen3Attention.decode_forward`"""
    names = []
    scope: list[ast.stmt] = ast.parse(source).body
    while found := next(
        (
            n
            for n in scope
            if isinstance(n, ast.ClassDef | ast.FunctionDef) and n.lineno <= line <= (n.end_lineno or n.lineno)
        ),
        None,
    ):
        names.append(found.name)
        scope = found.body
    return ".".join(names)


def _lines(lines: list[str], first: int, last: int) -> str:
    """Lines of a file, without the indentation they share."""
    taken = lines[first - 1 : last]
    indent = min((len(line) - len(line.lstrip()) for line in taken if line.strip()), default=0)
    return "\n".join(line[indent:] for line in taken)
