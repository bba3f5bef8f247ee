"""Coverage: each captured operation, what it was recognised as, the rule row that took it, and the ttnn calls it became."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fx2ttnn.emit.distinct import distinct_calls
from fx2ttnn.ir import Op
from fx2ttnn.lower.host import on_host
from fx2ttnn.lower.program import Program
from fx2ttnn.lower.values import Call, Lowered
from fx2ttnn.names import layer_of
from fx2ttnn.plan import Plan
from fx2ttnn.plan.segments import layer_counts
from fx2ttnn.report.issue import issue_text


@dataclass(frozen=True)
class Row:
    """One recognised operation of a spelled-out graph. `captured` are its FX nodes, `layers` how many layers have it.

    Of operations that were joined, all have the rule, and the last one the calls.

    `status`: "direct", "composite" (by calls that together are the operation: ttnn has none of its own), "host" (no row takes
    it, torch computes it) or "unsupported".
    """

    mode: str
    op: str
    module: str
    captured: tuple[str, ...]
    shapes: str
    rules: tuple[str, ...]
    ttnn: tuple[str, ...]
    layers: int
    status: str = "direct"
    problem: str = ""


@dataclass(frozen=True)
class Coverage:
    """The whole report, of decode and prefill. Percentages count captured operations of the whole model."""

    model: str
    target: str
    rows: tuple[Row, ...]
    distinct: tuple[dict[str, Any], ...]
    issues: tuple[str, ...]

    @property
    def modes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(row.mode for row in self.rows))

    @property
    def percent(self) -> float:
        """Share of the model's captured operations that have ttnn calls, in percent."""
        total = sum(len(r.captured) * r.layers for r in self.rows)
        done = sum(len(r.captured) * r.layers for r in self.rows if r.status not in ("unsupported", "host"))
        return 100 * done / total if total else 100.0

    def captured(self, mode: str) -> int:
        """Captured operations of the whole model in one mode."""
        return sum(len(r.captured) * r.layers for r in self.rows if r.mode == mode)

    def calls(self, mode: str | None = None) -> Counter[str]:
        """ttnn calls of the whole model by operation, in one mode or in all."""
        found: Counter[str] = Counter()
        for row in self.rows:
            if mode not in (None, row.mode):
                continue
            for call in row.ttnn if row.status != "host" else ():
                found[call] += row.layers
        return found

    @property
    def hosted(self) -> tuple[Row, ...]:
        """Operations that run on the host."""
        return tuple(row for row in self.rows if row.status == "host")

    def on_host(self, mode: str) -> int:
        """Operations of the whole model that run on the host in one step or chunk."""
        return sum(row.layers for row in self.rows if row.status == "host" and row.mode == mode)

    def to_json(self) -> dict[str, Any]:
        """Plain data, the same for the same model."""
        return {
            "model": self.model,
            "target": self.target,
            "modes": {m: {"captured_ops": self.captured(m), "ttnn_calls": self.calls(m).total()} for m in self.modes},
            "percent": round(self.percent, 2),
            "captured_ops": sum(self.captured(m) for m in self.modes),
            "ttnn_calls": dict(sorted(self.calls().items())),
            "distinct_calls": list(self.distinct),
            "rows": [vars(row) for row in self.rows],
            "on_host": {m: self.on_host(m) for m in self.modes if self.on_host(m)},
            "unsupported": [vars(row) for row in self.rows if row.problem],
        }

    def markdown(self) -> str:
        """The report as text."""
        lines = [
            f"# Coverage of {self.model} on {self.target}",
            "",
            f"{self.percent:.1f} % of the captured operations have ttnn calls; {len(self.distinct)} calls are distinct.",
            "",
        ]
        lines += [
            f"- {mode}: {self.captured(mode)} captured operations, {self.calls(mode).total()} ttnn calls in the whole model"
            + (f", {self.on_host(mode)} operations on the host" if self.on_host(mode) else "")
            for mode in self.modes
        ]
        if uncaptured := sorted({row.module for row in self.rows if row.op == "uncaptured"}):
            lines += ["", f"What these modules compute and hold is not known and not counted: {', '.join(uncaptured)}."]
        lines += [
            "",
            "| mode | operation | module | captured | layers | status | rule rows | ttnn calls |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for r in self.rows:
            done = r.problem or ", ".join(r.ttnn)
            status = f"**{r.status}**" if r.status in ("unsupported", "host") else r.status
            lines.append(
                f"| {r.mode} | {r.op} {r.shapes} | {r.module} | {len(r.captured)} | {r.layers} | {status}"
                f" | {', '.join(r.rules)} | {done} |"
            )
        lines += [
            "",
            "## Distinct calls",
            "",
            "Each has one test in tests/ops.",
            "",
            "| ttnn | first used in | uses | rule row |",
            "|---|---|---|---|",
        ]
        lines += [f"| {d['ttnn']} | {d['module']} | {d['uses']} | {d['rule']} |" for d in self.distinct]
        for text in self.issues:
            lines += ["", text]
        return "\n".join(lines) + "\n"

    def write(self, folder: Path) -> None:
        """coverage.json and coverage.md in `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "coverage.json").write_text(json.dumps(self.to_json(), indent=1) + "\n")
        (folder / "coverage.md").write_text(self.markdown())


def coverage(program: Program) -> Coverage:
    """Coverage of a program; prefill's by its longest chunk."""
    plan = program.plan
    steps = {"decode": (plan, program.decode), "prefill": (program.prefill_plan, program.lengths[max(program.lengths)])}
    rows = tuple(row for mode, (planned, lowered) in steps.items() for row in _rows(mode, planned, lowered))
    counts = layer_counts(plan.capture.graph)
    distinct = tuple(_distinct(first, group, counts) for (_, first), group in distinct_calls(program.calls()))
    drafts = dict.fromkeys(issue_text(op, why, p) for p, lowered in steps.values() for op, why in lowered.unsupported)
    return Coverage(plan.capture.model_name, plan.target.name, rows, distinct, tuple(drafts))


def _rows(mode: str, plan: Plan, lowered: Lowered) -> Iterator[Row]:
    counts = layer_counts(plan.capture.graph)
    problems = {op.outputs[0]: why for op, why in lowered.unsupported}
    by_op: dict[str, list[Call]] = {}
    rules: dict[str, tuple[str, ...]] = {}
    for call in lowered.calls:
        by_op.setdefault(_key(call.op.members[-1]), []).append(call)
        for op in call.op.members:
            rules[_key(op)] = tuple(dict.fromkeys((*rules.get(_key(op), ()), call.rule)))
    counted: set[str] = set()  # position tables share captured operations
    for op in plan.graph.ops:
        calls = by_op.get(_key(op), [])
        problem = problems.get(op.outputs[0], "")
        composite = any(call.composite for call in calls)
        yield Row(
            mode,
            op.name,
            op.module,
            tuple(s for s in op.sources if s not in counted),
            _shapes(op, plan),
            rules.get(_key(op), ()),
            tuple(c.function for c in calls),
            counts.get(layer_of(op.module) or "", 1),
            "unsupported" if problem else "host" if on_host(tuple(calls)) else "composite" if composite else "direct",
            problem,
        )
        counted |= set(op.sources)
    for call in lowered.calls:  # moves between layouts are nobody's captured operation
        if call.op.name == "reshard":
            layers = counts.get(layer_of(call.op.module) or "", 1)
            yield Row(mode, "reshard", call.op.module, (), "", (call.rule,), (call.function,), layers)


def _distinct(first: Any, group: list, counts: Mapping[str, int]) -> dict[str, Any]:
    uses = sum(counts.get(layer_of(c.op.module) or "", 1) for c in group)
    return {"ttnn": first.function, "module": first.op.module, "uses": uses, "rule": first.rule}


def _key(op: Op) -> str:
    return f"{op.name}:{op.outputs[0]}"


def _shapes(op: Op, plan: Plan) -> str:
    return ", ".join(str(list(plan.graph.specs[v].shape)) for v in op.inputs if v not in plan.graph.parameters)
