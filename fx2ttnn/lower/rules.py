"""Loading rule tables: TOML files whose rows say which ttnn calls an operation becomes. See lowering_rules/README.md."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from fx2ttnn.lower.expressions import ExpressionError, attributes, parse
from fx2ttnn.lower.lines import Line, parse_calls, parse_line
from fx2ttnn.lower.ttnn_api import signatures
from fx2ttnn.ops import TABLE
from fx2ttnn.shipped import shipped

RULES_DIR = Path(__file__).resolve().parents[2] / "lowering_rules"
DEFINITIONS = "define"  # the table of a file with lines that several rows share
TENSOR = frozenset(("shape", "dtype"))  # what a row says at least of a tensor that no call makes
# Methods of the emitted Resources, and the mesh itself; what a row says at least of each.
RESOURCES: Mapping[str, frozenset[str]] = {
    "global_semaphore": frozenset(),
    "two_semaphores": frozenset(),
    "persistent_buffer": TENSOR,
    "persistent_output": TENSOR,
    "mesh_device": frozenset(),
    "quarter_turn": frozenset(),
    "quarter_turns": TENSOR,
    "global_circular_buffer": frozenset(),
}
CONSTANT = frozenset(
    ("mesh_device", "quarter_turn", "quarter_turns", "global_circular_buffer")
)  # the others are taken in turn

Mode = Literal["any", "decode", "prefill", "sample"]


class RuleError(Exception):
    """A rule table is wrong: file, line and what to change."""


class Row(BaseModel, extra="forbid", strict=True):
    """A row as it stands in the file; what each key means is in lowering_rules/README.md."""

    name: str | None = None
    mode: Mode | list[Mode] = "any"
    operands: list[str] | None = None
    chain: list[str] = []
    when: list[str] = []
    why: str
    layout: dict[str, str] = {}
    parameters: list[str] = []
    shared: list[str] = []
    resources: list[str] = []
    inputs: list[str] = []
    caches: list[str] = []
    calls: list[str]
    results: list[str] | None = None
    overwrites: dict[str, str] = {}
    composite: bool = False


@dataclass(frozen=True)
class Rule:
    """A row: this op, in this mode, under these conditions, becomes these calls."""

    op: str
    name: str
    mode: str
    operands: tuple[str, ...]
    chain: tuple[Line, ...]  # the planned operations that it takes in one; none where it is one
    when: tuple[str, ...]
    why: str
    layout: Mapping[str, str]
    parameters: Mapping[str, Line]
    shared: tuple[str, ...]  # operands that are the tensors which the decode step holds
    resources: Mapping[str, Line]
    inputs: Mapping[str, Line]
    caches: Mapping[str, Line]
    calls: tuple[Line, ...]
    results: tuple[str, ...]
    overwrites: Mapping[str, str]  # results that lie in the place of an operand
    composite: bool
    where: str

    @property
    def specificity(self) -> int:
        """Conditions it states; of the rows that fit, the one with most is taken, among equals the first."""
        return len(self.when) + (self.mode != "any")

    def makes_result(self, call: int, name: str) -> bool:
        """Whether what `call` makes as `name` is a result: nothing after it makes another of that name."""
        return name in self.results and not any(name in later.names for later in self.calls[call + 1 :])


def load_rules(folder: Path = RULES_DIR) -> tuple[Rule, ...]:
    """All rows of the tables in `folder`, checked against the installed ttnn; raises RuleError with file and line, UserError where there are none."""
    rules = tuple(rule for path in shipped(folder, "*.toml") for rule in _of_file(path.name, path.read_text()))
    _check_reachable(rules)
    return rules


@cache
def _of_file(file: str, text: str) -> tuple[Rule, ...]:
    """The rows of one file; read once, as a compile lowers four graphs."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RuleError(f"{file}: not TOML: {error}") from None
    defined = data.pop(DEFINITIONS, {})
    rows = {op: iter(of_op) for op, of_op in data.items() if isinstance(of_op, list)}
    if single := data.keys() - rows.keys():
        raise RuleError(f"{file}: [{min(single)}] is no row; a row begins with [[{min(single)}]]")
    rules: list[Rule] = []
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\[\s*(\w+)\s*\]\]", line):
            rules += _rules(header[1], next(rows[header[1]]), defined, f"{file}:{number}")
    return tuple(rules)


def _rules(op: str, content: Any, defined: Mapping[str, str], where: str) -> Iterator[Rule]:
    """The row, once for each of its modes: in prefill, what it says of parameters and caches is what decode holds."""
    try:
        row = Row.model_validate(content)
    except ValidationError as error:
        raise RuleError(f"{where}: {_said(error)}") from None
    if row.operands is None and not row.chain and op not in TABLE:
        raise RuleError(f"{where}: fx2ttnn/ops/ has no operation {op!r}; a row for it names its operands or a chain")

    def said(texts: Sequence[str]) -> list[str]:
        return [defined.get(text, text) for text in texts]

    try:
        parameters, inputs, caches = (
            _named(map(parse_line, said(t))) for t in (row.parameters, row.inputs, row.caches)
        )
        resources = _named(map(parse_line, said(row.resources)), RESOURCES)
        calls = tuple(parse_calls(said(row.calls)))
        chain = tuple(map(parse_line, row.chain))
        for text in (*row.when, *row.layout.values()):
            parse(text)
    except ExpressionError as error:
        raise RuleError(f"{where}: {error}") from None
    for call in calls:
        _check_call(call, where)
    if chain:
        _check_chain(chain, row, where)
        operands = list(dict.fromkeys(_read(chain)))
    else:
        operands = row.operands or [operand.name for operand in TABLE[op].operands]
    rule = Rule(
        op=op,
        name=row.name or op,
        mode="any",
        operands=tuple(operands),
        chain=chain,
        when=tuple(row.when),
        why=row.why,
        layout=row.layout,
        parameters=parameters,
        shared=tuple(row.shared),
        resources=resources,
        inputs=inputs,
        caches=caches,
        calls=calls,
        results=tuple(row.results or (calls[-1].names if calls else ())),
        overwrites=row.overwrites,
        composite=row.composite,
        where=where,
    )
    _check_attributes(rule)
    modes = [row.mode] if isinstance(row.mode, str) else row.mode
    held = (*rule.shared, *rule.parameters, *rule.caches)
    for mode in modes:
        of_mode = replace(rule, mode=mode)
        by_decode = mode == "prefill" and "decode" in modes
        yield replace(of_mode, shared=held, parameters={}, caches={}) if by_decode else of_mode


def _said(error: ValidationError) -> str:
    """The first fault of a row, in words for who writes it."""
    # A wrong key before a wanting one, which it may be.
    fault = min(error.errors(), key=lambda fault: fault["type"] != "extra_forbidden")
    key = ".".join(map(str, fault["loc"]))
    if fault["type"] == "extra_forbidden":
        return f"unknown key {key!r}; known are {', '.join(sorted(Row.model_fields))}"
    return f"a row needs {key!r}" if fault["type"] == "missing" else f"{key}: {fault['msg']}"


def _named(lines: Iterable[Line], makers: Mapping[str, frozenset[str]] | None = None) -> dict[str, Line]:
    """Lines by the one name that each has; `makers`: the functions that may make it, and the facts that each wants."""
    named = {}
    for line in lines:
        if makers is not None and line.function not in makers:
            raise ExpressionError(f"no resource {line.function}; there are {', '.join(sorted(makers))}")
        wanted = TENSOR if makers is None else makers[line.function]
        if len(line.names) != 1 or not wanted <= line.facts[0].keys():
            kind = "a parameter, input or cache" if makers is None else line.function
            facts = ", a shape and a dtype" if wanted else ""
            raise ExpressionError(f"{', '.join(line.names)}: {kind} has one name{facts}")
        named[line.names[0]] = line
    return named


def _check_call(call: Line, where: str) -> None:
    known = signatures()
    if call.function not in known:
        raise RuleError(f"{where}: ttnn has no operation {call.function!r}")
    for argument in call.kwargs:
        if known[call.function] and argument not in known[call.function]:
            raise RuleError(
                f"{where}: {call.function} has no argument {argument!r}; it has {', '.join(known[call.function])}"
            )


def _read(chain: Sequence[Line]) -> Iterator[str]:
    """What a chain reads from outside, in order."""
    made: set[str] = set()
    for line in chain:
        yield from (name for name in line.args if name not in made)
        made |= {*line.names}


def _check_chain(chain: Sequence[Line], row: Row, where: str) -> None:
    """A chain is of operations of the table, each of which reads what the one before it makes, or also reads; its row knows what is planned, not yet where it lies."""
    for before, line in zip((None, *chain), chain, strict=False):
        entry = TABLE.get(line.function)
        if entry is None or not all(name.isidentifier() for name in line.args):
            raise RuleError(
                f"{where}: chain: `names = operation(names)` of fx2ttnn/ops/ is wanted, not {line.function!r}"
            )
        if len(line.names) != len(entry.results) or len(line.args) > len(entry.operands):
            raise RuleError(
                f"{where}: chain: {line.function} reads {len(entry.operands)} values and gives {len(entry.results)}"
            )
        if before and not {*before.names, *before.args} & {*line.args}:
            raise RuleError(f"{where}: chain: {line.function} reads nothing of {before.function}, nor what that reads")
    if near := next((text for text in row.when if ".memory" in text), None):
        raise RuleError(
            f"{where}: {near!r}: operations are joined before it is known where a tensor lies; say it in `layout`"
        )


def _check_attributes(rule: Rule) -> None:
    """What a row reads of its operation, or of one of its chain, is what the table of operations says that it has."""
    names = dict.fromkeys([line.function for line in rule.chain] or [rule.op])
    entries = [TABLE[name] for name in names if name in TABLE]
    if not entries:
        return
    lines = (
        *rule.parameters.values(),
        *rule.resources.values(),
        *rule.inputs.values(),
        *rule.caches.values(),
        *rule.calls,
    )
    parts = (t for line in lines for t in line.texts)
    for text in (*rule.when, *rule.layout.values(), *parts):
        for name in attributes(text, "op"):
            having = [entry for entry in entries if name in entry.attributes or name in entry.earlier]
            if not having:
                raise RuleError(f"{rule.where}: {text!r}: {rule.op} has no attribute {name!r} in fx2ttnn/ops/")
            if len(having) > 1:
                raise RuleError(f"{rule.where}: {text!r}: two operations of the chain have an attribute {name!r}")


def _check_reachable(rules: tuple[Rule, ...]) -> None:
    """A row with the conditions of an earlier one can never be taken."""
    seen: dict[tuple, Rule] = {}
    for rule in rules:
        key = (rule.op, rule.mode, frozenset(rule.when))
        if key in seen:
            raise RuleError(f"{rule.where}: unreachable: {seen[key].where} has the same op, mode and conditions")
        seen[key] = rule
