"""The coverage report in the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from rich.markup import escape
from rich.table import Table


def render(report: dict[str, Any]) -> Iterator[Table]:
    """For each mode coverage by recognised operation, then the ttnn calls of the whole model."""
    for mode, found in report["modes"].items():
        yield _mode(report, mode, found)
    calls = Table("ttnn", "calls in the model", "distinct, each with a test", title_justify="left")
    distinct = Counter(d["ttnn"] for d in report["distinct_calls"])
    for name, count in sorted(report["ttnn_calls"].items(), key=lambda item: -item[1]):
        calls.add_row(name, str(count), str(distinct[name]))
    yield calls


def _mode(report: dict[str, Any], mode: str, found: dict[str, int]) -> Table:
    title = (
        f"{report['model']} on {report['target']}, {mode}: {found['captured_ops']} captured operations,"
        f" {found['ttnn_calls']} ttnn calls; {report['percent']:g} % of all modes' operations are covered"
    )
    table = Table(title=escape(title), title_justify="left")
    for name in ("operation", "in", "captured", "layers", "status", "rule row", "ttnn"):
        table.add_column(name, overflow="fold")
    for row in report["rows"]:
        if row["mode"] != mode:
            continue
        cells = row["problem"] or "\n".join(_counted(row["ttnn"]))
        captured = str(len(row["captured"])) if row["captured"] else ""
        texts = (row["op"], row["module"], captured, str(row["layers"]), row["status"], "\n".join(row["rules"]), cells)
        table.add_row(*map(escape, texts), style="red" if row["problem"] else None)
    return table


def _counted(names: list[str]) -> list[str]:
    return [name if count == 1 else f"{name} x{count}" for name, count in Counter(names).items()]
