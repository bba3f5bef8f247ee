"""What differs between two reports: operations, counts, coverage, predicted time, memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fx2ttnn.report.data import Report
from fx2ttnn.report.text import gigabytes, plural, seconds, shape
from fx2ttnn.report.verified import counted, verifications


@dataclass(frozen=True)
class Change:
    """Something that is not the same in both; empty text where one of them does not have it."""

    what: str
    before: str
    after: str


@dataclass(frozen=True)
class OpChange:
    """An operation of one mode: `added`, `removed` or `changed`, and for the last what changed."""

    mode: str
    part: str
    op: str
    module: str
    kind: str
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True)
class Diff:
    """From `before` to `after`. `totals` holds only what differs."""

    before: str
    after: str
    totals: tuple[Change, ...]
    ops: tuple[OpChange, ...]

    @property
    def same(self) -> bool:
        return not self.totals and not self.ops


def diff(before: Report, after: Report) -> Diff:
    """What `after` has otherwise than `before`."""
    one, two = _totals(before), _totals(after)
    names = dict.fromkeys([*one, *two])
    totals = tuple(Change(n, one.get(n, ""), two.get(n, "")) for n in names if one.get(n, "") != two.get(n, ""))
    return Diff(before.title, after.title, totals, tuple(_ops(before, after)))


def _totals(report: Report) -> dict[str, str]:
    """What a report says of the whole, as text by name."""
    graph, covered = report.graph, report.coverage
    found = {
        "model": graph["model"],
        "target": f"{graph['target']}, mesh {graph['mesh_shape'][0]}x{graph['mesh_shape'][1]}",
        "precision": graph["precision"],
        "coverage": f"{covered['percent']:g} %",
        "captured operations": str(covered["captured_ops"]),
        "distinct calls": str(len(covered["distinct_calls"])),
    }
    for name, count in covered["ttnn_calls"].items():
        found[f"calls of {name}"] = str(count)
    for name, mode in graph["modes"].items():
        if not mode["planned"]:
            continue
        found[f"{name}: users, tokens"] = f"{mode['users']}, {mode['max_seq_len']}"
        found[f"{name}: hidden state on the mesh"] = mode["residual"]
        found[f"{name}: predicted step"] = seconds(mode["step_seconds"])
        for what, count in mode["dram_bytes"].items():
            found[f"{name}: planned DRAM on a chip, {what}"] = gigabytes(count)
        for part in mode["parts"]:
            found[f"{name}: {part['name']}"] = (
                f"{plural(part['count'], 'time')}, predicted {seconds(part['seconds'])} each"
            )
    return found | _checked(report) | {v.name: v.state for v in verifications(report)}


def _checked(report: Report) -> dict[str, str]:
    if report.check is None:
        return {}
    found = {f"checked: {c.of}": f"{c.device_ops} device ops, {c.collectives} collectives" for c in counted(report)}
    if report.check["dram"]:
        found["checked: DRAM on a chip"] = gigabytes(report.check["dram"]["total_bytes"])
    return found


def _ops(before: Report, after: Report) -> list[OpChange]:
    one, two = _keyed(before), _keyed(after)
    found = []
    for key in dict.fromkeys([*one, *two]):
        mode, part, module, op, _ = key
        if key not in one or key not in two:
            found.append(OpChange(mode, part, op, module, "added" if key not in one else "removed"))
            continue
        old, new = _described(one[key]), _described(two[key])
        changes = tuple(
            Change(n, old.get(n, ""), new.get(n, "")) for n in dict.fromkeys([*old, *new]) if old.get(n) != new.get(n)
        )
        if changes:
            found.append(OpChange(mode, part, op, module, "changed", changes))
    return found


def _keyed(report: Report) -> dict[tuple[str, str, str, str, int], Mapping[str, Any]]:
    """Operations by mode, part, module, name and how many of the same came before: not by value, whose names may shift."""
    found: dict[tuple[str, str, str, str, int], Mapping[str, Any]] = {}
    for mode, step in report.graph["modes"].items():
        for part in step["parts"]:
            seen: Counter[tuple[str, str]] = Counter()
            for node in part["nodes"]:
                name = (node["module"], node["op"])
                found[(mode, part["name"], *name, seen[name])] = node
                seen[name] += 1
    return found


def _described(node: Mapping[str, Any]) -> dict[str, str]:
    calls = node["calls"]
    return {
        "result": "; ".join(_value(v) for v in node["outputs"]),
        "weights": "; ".join(_value(v) for v in node["parameters"]),
        "ttnn calls": ", ".join(c["ttnn"] for c in calls),
        "rule rows": ", ".join(dict.fromkeys(c["rule"] for c in calls)),
        "layout of the calls": "; ".join(
            f"{shape(t['shape'])} {t['dtype']}, {t['memory']}" for c in calls for t in c["outputs"]
        ),
        "predicted": seconds(node["seconds"]),
        "problem": node["problem"],
    }


def _value(value: Mapping[str, Any]) -> str:
    return f"{shape(value['shape'])} {value.get('placement', '')}".strip()
