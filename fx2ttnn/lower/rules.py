"""Loading rule tables: TOML files whose rows say which ttnn calls an operation becomes. See lowering_rules/README.md."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fx2ttnn.lower.expressions import ExpressionError, parse
from fx2ttnn.lower.ttnn_api import signatures
from fx2ttnn.shipped import shipped

RULES_DIR = Path(__file__).resolve().parents[2] / "lowering_rules"
_RULE_KEYS = {
    "name",
    "op",
    "mode",
    "operands",
    "when",
    "why",
    "layout",
    "parameters",
    "shared",
    "states",
    "calls",
    "results",
    "composite",
}
_CALL_KEYS = {"ttnn", "args", "kwargs", "out", "writes", "pcc"}
_OUT_KEYS = {"shape", "memory", "dtype", "layout", "axes", "name"}
_PARAMETER_KEYS = {"attribute", "transform", "shape", "memory", "dtype", "layout", "axes", "arguments"}
_STATE_KEYS = {"shape", "memory", "dtype", "layout", "axes", "scope"}


class RuleError(Exception):
    """A rule table is wrong: file, line and what to change."""


@dataclass(frozen=True)
class RuleCall:
    """One ttnn call of a row; every string of `args` and `kwargs` is an expression."""

    ttnn: str
    args: tuple[str, ...]
    kwargs: Mapping[str, str]
    out: Mapping[str, Mapping[str, str]]
    writes: tuple[str, ...]
    pcc: float


@dataclass(frozen=True)
class Rule:
    """A row: this op, in this mode, under these conditions, becomes these calls."""

    op: str
    name: str
    mode: str
    operands: tuple[str, ...]
    when: tuple[str, ...]
    why: str
    layout: Mapping[str, str]
    parameters: Mapping[str, Mapping[str, Any]]
    states: Mapping[str, Mapping[str, str]]
    calls: tuple[RuleCall, ...]
    results: tuple[str, ...]
    composite: bool
    where: str
    shared: tuple[str, ...] = ()  # operands that are the tensors which the decode step holds

    @property
    def specificity(self) -> int:
        """Conditions it states; of the rows that fit, the one with most is taken, among equals the first."""
        return len(self.when) + (self.mode != "any")


def load_rules(folder: Path = RULES_DIR) -> tuple[Rule, ...]:
    """All rows of the tables in `folder`, checked against the installed ttnn; raises RuleError with file and line, UserError where there are none."""
    rules = tuple(rule for path in shipped(folder, "*.toml") for rule in _load_file(path))
    _check_reachable(rules)
    return rules


def _load_file(path: Path) -> list[Rule]:
    text = path.read_text()
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RuleError(f"{path.name}: not TOML: {error}") from None
    lines = [n for n, line in enumerate(text.splitlines(), 1) if re.match(r"\s*\[\[\s*rule\s*\]\]", line)]
    return [_rule(row, f"{path.name}:{line}") for row, line in zip(data.get("rule", []), lines, strict=True)]


def _rule(row: Mapping[str, Any], where: str) -> Rule:
    _known(row, _RULE_KEYS, where)
    for key in ("op", "why", "operands", "calls"):
        if key not in row:
            raise RuleError(f"{where}: a row needs {key!r}")
    calls = tuple(_call(call, f"{where} call {n}") for n, call in enumerate(row["calls"], 1))
    for name, spec in row.get("parameters", {}).items():
        _known(spec, _PARAMETER_KEYS, f"{where} parameter {name!r}")
        _parse_all(spec, f"{where} parameter {name!r}")
    for name, spec in row.get("states", {}).items():
        _known(spec, _STATE_KEYS, f"{where} state {name!r}")
        _parse_all(spec, f"{where} state {name!r}")
    rule = Rule(
        op=row["op"],
        name=row.get("name", row["op"]),
        mode=row.get("mode", "any"),
        operands=tuple(row["operands"]),
        when=tuple(row.get("when", ())),
        why=row["why"],
        layout=row.get("layout", {}),
        parameters=row.get("parameters", {}),
        states=row.get("states", {}),
        calls=calls,
        results=tuple(row.get("results", ("y",))),
        composite=row.get("composite", False),
        where=where,
        shared=tuple(row.get("shared", ())),
    )
    for text in (*rule.when, *rule.layout.values()):
        _parse(text, where)
    return rule


def _call(row: Mapping[str, Any], where: str) -> RuleCall:
    _known(row, _CALL_KEYS, where)
    if "ttnn" not in row:
        raise RuleError(f"{where}: a call needs 'ttnn'")
    known = signatures()
    operation = row["ttnn"]
    if operation not in known:
        raise RuleError(f"{where}: ttnn has no operation {operation!r}")
    for argument in row.get("kwargs", {}):
        if known[operation] and argument not in known[operation]:
            raise RuleError(f"{where}: {operation} has no argument {argument!r}; it has {', '.join(known[operation])}")
    for text in (*row.get("args", ()), *row.get("kwargs", {}).values()):
        _parse(text, where)
    for name, spec in row.get("out", {}).items():
        _known(spec, _OUT_KEYS, f"{where} output {name!r}")
        _parse_all(spec, f"{where} output {name!r}")
    return RuleCall(
        operation,
        tuple(row.get("args", ())),
        row.get("kwargs", {}),
        row.get("out", {}),
        tuple(row.get("writes", ())),
        row.get("pcc", 0.999),
    )


def _known(row: Mapping[str, Any], keys: set[str], where: str) -> None:
    for key in row:
        if key not in keys:
            raise RuleError(f"{where}: unknown key {key!r}; known are {', '.join(sorted(keys))}")


def _parse_all(spec: Mapping[str, Any], where: str) -> None:
    """Check the fields of a parameter, state or output that are expressions."""
    fields = (spec[key] for key in ("shape", "memory", "dtype", "axes") if key in spec)
    for text in (*fields, *spec.get("arguments", {}).values()):
        _parse(text, where)


def _parse(text: str, where: str) -> None:
    try:
        parse(text)
    except ExpressionError as error:
        raise RuleError(f"{where}: {error}") from None


def _check_reachable(rules: tuple[Rule, ...]) -> None:
    """A row with the conditions of an earlier one can never be taken."""
    seen: dict[tuple, Rule] = {}
    for rule in rules:
        key = (rule.op, rule.mode, frozenset(rule.when))
        if key in seen:
            raise RuleError(f"{rule.where}: unreachable: {seen[key].where} has the same op, mode and conditions")
        seen[key] = rule
