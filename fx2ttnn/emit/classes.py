"""Class and file of each unit. Units whose code is the same, but for comments and the names of values, share one class."""

from __future__ import annotations

from fx2ttnn.emit.code import Numbered, Writer
from fx2ttnn.emit.configs import COLLECTED, ByValue
from fx2ttnn.emit.units import ROUTER, Unit
from fx2ttnn.ir import Capture
from fx2ttnn.lower.program import Program
from fx2ttnn.names import layer_of
from fx2ttnn.ops import MOVES, NORMS

ROLE_FILES = {
    "layer": "decoder",
    "attention": "attention",
    "norm": "norm",
    "sample": "sampling",
    "experts": "moe",
    "router_logits": "gate",
}


def name_classes(root: Unit, program: Program) -> None:
    """Give every unit of the tree its class, file and role, children before parents, whose code names them."""
    writer = Writer(program, ByValue(program))
    same: dict[tuple, Unit] = {}
    taken: dict[str, tuple] = {}
    for unit in sorted(root.tree(), key=lambda u: -len(u.path.split(".")) if u.path else 1):
        key = _code(unit, writer)
        if key in same:
            unit.class_name, unit.file, unit.role = same[key].class_name, same[key].file, same[key].role
            continue
        base = _class_name(unit, program.plan.capture)
        name = base
        if taken.get(name, key) != key:
            name = base + _difference(unit)
        if taken.get(name, key) != key:
            name = base + camel(unit.attribute)
        while taken.get(name, key) != key:
            name += "Variant"
        taken[name] = key
        unit.class_name, unit.file = name, _file(unit)
        unit.role = f"{unit.file} {name.removeprefix(base)}"
        same[key] = unit


def _code(unit: Unit, writer: Writer) -> tuple:
    """The code of a unit with its values numbered: callers give arguments by their places. Of the model, which is one of a kind, its path."""
    if not unit.path:
        return ("",)
    methods = (writer.method(unit, mode, Numbered(body, mode)) for mode, body in unit.bodies.items())
    code = ((m.arguments, *(line.partition("  # ")[0] for line, _ in m.statements), m.returns) for m in methods)
    return (tuple(writer.constructor(unit)), *code)


def _difference(unit: Unit) -> str:
    """What a unit does with its input first, as a word, for a variant of a class: `Gathered` where it gathers it."""
    return COLLECTED.get(unit.all_calls()[0].op.name, "")


def _class_name(unit: Unit, capture: Capture) -> str:
    info = capture.modules.get(unit.path)
    name = info.class_name if info else ""
    if name in ("", "Linear", "Embedding", "Module") or not name.isidentifier():
        return camel(unit.attribute)
    return name


def _file(unit: Unit) -> str:
    names = {call.op.name for call in unit.all_calls()}
    if not unit.path:
        return "model"
    if layer_of(unit.path) == unit.path:
        return ROLE_FILES["layer"]
    for role in ("attention", "sample"):
        if role in names:
            return ROLE_FILES[role]
    if "scale_by_routing" in names:
        return ROLE_FILES["experts"]
    if ROUTER in names:
        return ROLE_FILES["router_logits"]
    if names - MOVES <= NORMS:
        return ROLE_FILES["norm"]
    return unit.attribute


def camel(text: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in text.split("_") if part)
