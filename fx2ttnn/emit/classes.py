"""Class and file of each unit.

Units whose code is the same, but for comments and the names of values, share one class. What differs in numbers and configurations
are arguments of its constructor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import chain, count, groupby

from fx2ttnn.emit.code import Numbered, Writer
from fx2ttnn.emit.configs import COLLECTED, ByValue, is_constant
from fx2ttnn.emit.units import ROUTER, Place, Unit
from fx2ttnn.ir import Capture
from fx2ttnn.lower.lengths import ByLength
from fx2ttnn.lower.program import Program
from fx2ttnn.lower.values import Call
from fx2ttnn.names import layer_of, lies_in
from fx2ttnn.ops import MOVES, NORMS

ROLE_FILES = {
    "layer": "decoder",
    "attention": "attention",
    "norm": "norm",
    "sample": "sampling",
    "experts": "moe",
    "router_logits": "gate",
}


OPTIONAL = {"sliding_window_size"}  # arguments of ttnn for which None is as good as not given


def name_classes(root: Unit, program: Program) -> None:
    """Give every unit of the tree its class, file and role, and what its constructor takes; children before parents, whose code names them."""
    writer = Writer(program, ByValue(program))
    taken: set[str] = set()
    for _, units in groupby(sorted(root.tree(), key=_order), key=_height):
        alike: dict[tuple, dict[Unit, dict[Place, str]]] = {}
        for unit in units:
            key, constants = _code(unit, writer)
            alike.setdefault(key, {})[unit] = constants
        for group in alike.values():
            first = next(iter(group))
            base = _class_name(first, program.plan.capture)
            names = (base, base + _difference(first), base + camel(first.attribute))
            variants = (names[-1] + "Variant" * n for n in count(1))
            name = next(n for n in chain(names, variants) if n not in taken)
            taken.add(name)
            for unit in group:
                unit.class_name, unit.file = name, _file(first)
                unit.role = f"{unit.file} {name.removeprefix(base)}"
            _open(group, {"mesh_device", "weights", *(name for name, _ in writer.constructor(first))})


def _height(unit: Unit) -> int:
    return 1 + max(map(_height, unit.children), default=-1)


def _order(unit: Unit) -> tuple[int, int]:
    return _height(unit), -len(unit.path.split(".")) if unit.path else 1


def _code(unit: Unit, writer: Writer) -> tuple[tuple, dict[Place, str]]:
    """The code of a unit but for its constants, and these by their places.

    Values are numbered: callers give arguments by their places. Of the model, which is one of a kind, the code is its path.
    """
    if not unit.path:
        return ("",), {}
    constants: dict[Place, str] = {}
    code: list[tuple] = [tuple(writer.inits(unit))]
    for child in unit.children:
        code.append((child.attribute, child.class_name, child.path[len(unit.path) + 1 :]))
        constants |= {(child.attribute, None, name): writer.given(child, name) for name in child.arguments}
    for mode, body in unit.bodies.items():
        names = Numbered(body, mode)
        caches = [body.lowered.tensors[v].shape for v in body.inputs if body.lowered.states.get(v) == "layer"]
        code.append((mode, len(body.inputs), tuple(caches)))
        for index, item in enumerate(body.items):
            if isinstance(item, Call):
                found = {k: v for k, v in item.kwargs.items() if is_constant(v)}
                constants |= {(mode, index, k): writer.configs.argument(item, k, v) for k, v in found.items()}
                code.append(tuple((k, isinstance(v, ByLength)) for k, v in found.items() if k not in OPTIONAL))
                item = replace(item, kwargs={k: v for k, v in item.kwargs.items() if k not in found})
            code.append((writer.statement(item, unit, names, index).partition("  # ")[0],))
        code.append(tuple(names.of[v] for v in body.outputs))
    return tuple(code), constants


def _open(group: Mapping[Unit, Mapping[Place, str]], attributes: set[str]) -> None:
    """Make arguments of the constructor of what differs among the units of a class: one of all that differs alike."""
    same: dict[tuple, str] = {}
    for place in dict.fromkeys(place for constants in group.values() for place in constants):
        values = tuple(constants.get(place, "None") for constants in group.values())
        if len(set(values)) == 1:
            continue
        holder, index, keyword = place
        base = _argument(place, next(iter(group)))
        names = chain((base, f"{holder}_{base}"), (f"{holder}_{base}_{n}" for n in count(2)))
        free = next(n for n in names if n not in attributes and n not in same.values())
        name = same.setdefault((base, values), free)
        for unit in group:
            unit.open[place] = name
            if index is None:
                child = next(child for child in unit.children if child.attribute == holder)
                unit.arguments[name] = child.arguments[keyword]
            else:
                call = unit.bodies[holder].items[index]
                assert isinstance(call, Call)
                unit.arguments[name] = call, keyword


def _argument(place: Place, unit: Unit) -> str:
    """What an argument of a class is called after the place in its code that takes it: a number as there, a configuration by its operation."""
    holder, index, keyword = place
    item = unit.bodies[holder].items[index] if index is not None else None
    if not isinstance(item, Call) or isinstance(item.kwargs.get(keyword), int | float | None):
        return keyword
    return f"{item.op.name}_{holder}_{keyword.removesuffix('_config')}"


def _difference(unit: Unit) -> str:
    """What a unit does with its input first, as a word, for a variant of a class: `Gathered` where it gathers it."""
    first = unit.all_calls()[0].op.members[0].name
    return "OfSum" if first == "add" else COLLECTED.get(first, "")


def _class_name(unit: Unit, capture: Capture) -> str:
    info = capture.modules.get(unit.path)
    name = info.class_name if info else ""
    if name in ("", "Linear", "Embedding", "Module") or not name.isidentifier():
        return camel(unit.attribute)
    return name


def _file(unit: Unit) -> str:
    members = (op for call in unit.all_calls() for op in call.op.members)
    names = {op.name for op in members if lies_in(op.module, unit.path)}  # without what others joined to it
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
