"""The coverage report in the terminal."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.table import Table

from fx2ttnn.errors import UserError


def read(package: Path) -> dict[str, Any]:
    """coverage.json of a package; UserError where there is none."""
    file = package / "report" / "coverage.json"
    try:
        return json.loads(file.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise UserError(
            f"{package} holds no report of fx2ttnn ({file.name}: {error}): compile a model first"
        ) from error


def render(report: dict[str, Any]) -> Iterator[Table]:
    """Coverage by recognised operation, then the ttnn calls of the whole model."""
    title = f"{report['model']} on {report['target']}, {report['mode']}: {report['percent']:g} % of {report['captured_ops']} captured operations"
    table = Table(title=title, title_justify="left")
    for name in ("operation", "in", "captured", "layers", "rule row", "ttnn"):
        table.add_column(name, overflow="fold")
    for row in report["rows"]:
        found = "\n".join(_counted(row["ttnn"])) if not row["problem"] else f"unsupported: {row['problem']}"
        style = "red" if row["problem"] else None
        captured = str(len(row["captured"])) if row["captured"] else ""
        table.add_row(
            row["op"], row["module"], captured, str(row["layers"]), "\n".join(row["rules"]), found, style=style
        )
    yield table
    calls = Table("ttnn", "calls in the model", "distinct, each with a test", title_justify="left")
    distinct = Counter(d["ttnn"] for d in report["distinct_calls"])
    for name, count in sorted(report["ttnn_calls"].items(), key=lambda item: -item[1]):
        calls.add_row(name, str(count), str(distinct[name]))
    yield calls


def _counted(names: list[str]) -> list[str]:
    return [name if count == 1 else f"{name} x{count}" for name, count in Counter(names).items()]
