"""The table of every operation: one line for each ttnn call, or for an operation that has none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fx2ttnn.report.cases import Case
from fx2ttnn.report.costs import shares
from fx2ttnn.report.data import Report
from fx2ttnn.report.text import seconds, shape
from fx2ttnn.report.verified import call_status, measured, outcomes

NOT_RUN = "not run"


def part_rows(
    report: Report, mode: str, part: Mapping[str, Any], cases: Mapping[str, tuple[Case, ...]]
) -> list[dict[str, Any]]:
    """Operations of a part of graph.json, each with its calls, for the table and for the cards of the picture."""
    return [_op(report, mode, node, part, cases) for node in part["nodes"]]


def _op(
    report: Report, mode: str, node: Mapping[str, Any], part: Mapping[str, Any], cases: Mapping[str, tuple[Case, ...]]
) -> dict[str, Any]:
    taken = shares(node)
    return {
        "op": node["op"],
        "kind": "unsupported" if node["problem"] else node["kind"],
        "module": node["module"] or "the model",
        "count": part["count"],
        "captured": node["captured"],
        "problem": node["problem"],
        "inputs": [value_text(v) for v in node["inputs"]],
        "weights": [value_text(v, v.get("name", "")) for v in node["parameters"]],
        "outputs": [value_text(v) for v in node["outputs"]],
        "result": _local(node["outputs"][0]),
        "seconds": node["seconds"],
        "time": seconds(node["seconds"]) if node["seconds"] else "not priced",
        "in_step": seconds(node["seconds"] * part["count"]),
        "bound_by": taken.bound_by,
        "split": [f"{name} {seconds(value)}" for name, value in taken.by_name.items() if value],
        "flops": node["flops"],
        "dram_bytes": node["dram_bytes"],
        "calls": [_call(report, mode, call, cases) for call in node["calls"]],
    }


def _call(report: Report, mode: str, call: Mapping[str, Any], cases: Mapping[str, tuple[Case, ...]]) -> dict[str, Any]:
    case = case_of(call, cases)
    return {
        "ttnn": call["ttnn"],
        "rule": call["rule"],
        "why": call["why"],
        "composite": call.get("composite", False),
        "move": call["move"],
        "where": statement_text(call["statement"]),
        "test": case.test_id if case else "",
        "test_name": case.name if case else "",
        "status": call_status(report, mode, call["statement"]),
        "outcome": ", ".join(test_outcomes(report, case)) or NOT_RUN,
        "inputs": [tensor_text(t) for t in call["inputs"]],
        "outputs": [tensor_text(t) for t in call["outputs"]],
    }


def case_of(call: Mapping[str, Any], cases: Mapping[str, tuple[Case, ...]]) -> Case | None:
    """The op test of a call; None where the package's tests are not there."""
    file, number = call["test"]
    found = cases.get(file, ())
    return found[number] if number < len(found) else None


def test_outcomes(report: Report, case: Case | None) -> Iterator[str]:
    """`passed (emulator, PCC 0.999871, largest difference 0.4 %)` for each backend that ran the test."""
    for backend in ("emulator", "simulator", "card"):
        outcome = outcomes(report, backend).get(case.test_id) if case else None
        if case and outcome:
            pcc, difference = (measured(report, name, backend).get(case.test_id) for name in ("pcc", "difference"))
            words = [backend]
            words += [] if pcc is None else [f"PCC {pcc:.6f}"]
            words += [] if difference is None else [f"largest difference {100 * difference:.2g} %"]
            yield f"{outcome} ({', '.join(words)})"


def statement_text(statement: list[Any] | None) -> str:
    """`attention.py:28`"""
    return f"{statement[0]}:{statement[1]}" if statement else ""


def tensor_text(tensor: Mapping[str, Any]) -> str:
    """One chip's part of a tensor of a call."""
    where = f"{shape(tensor['shape'])} {tensor['dtype']}, {tensor['memory']}, {tensor['placement']}"
    made_of = f" from {', '.join(tensor['parameters'])}" if tensor["parameters"] else ""
    return f"{tensor['name']} {where}{made_of}"


def value_text(value: Mapping[str, Any], name: str = "") -> str:
    """A planned value: whole, and one chip's part."""
    text = f"{name or value['value']} {shape(value['shape'])} {value.get('placement', 'not placed')}"
    return f"{text}: {_local(value)} on a chip" if "local" in value else text


def _local(value: Mapping[str, Any]) -> str:
    return f"{shape(value['local'])} {value['lies']}" if "local" in value else shape(value["shape"])
