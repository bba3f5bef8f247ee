"""The emitted classes: the ttnn graph cut along the Hugging Face modules.

A unit is a module that becomes a class: the children of a layer and of the model, the layers, and the model itself. What lies
deeper is inlined. Units whose calls are equal but for the weights they name share one class.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from fx2ttnn.ir import Capture, Ref
from fx2ttnn.lower.values import Call, Lowered
from fx2ttnn.plan.segments import layer_of

NORMS = {"rms_norm", "layer_norm"}
MOVES = {"reshard", "all_gather", "all_reduce", "reduce_scatter", "mesh_partition"}
ROLE_FILES = {"layer": "decoder", "attention": "attention", "norm": "norm"}


@dataclass
class Unit:
    """A module of the model with its own calls and child units, in order; `path` is empty for the model."""

    path: str
    items: list[Call | Unit] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    parameters: list[str] = field(default_factory=list)
    class_name: str = ""
    file: str = ""

    @property
    def attribute(self) -> str:
        return identifier(self.path.rsplit(".", 1)[-1])

    @property
    def calls(self) -> list[Call]:
        """The unit's own calls, without those of its children."""
        return [item for item in self.items if isinstance(item, Call)]

    @property
    def children(self) -> list[Unit]:
        return [item for item in self.items if isinstance(item, Unit)]

    def all_calls(self) -> list[Call]:
        """Every call in the unit and below, in order."""
        return [call for item in self.items for call in ([item] if isinstance(item, Call) else item.all_calls())]


def identifier(text: str) -> str:
    """A Python identifier made from a module's name."""
    cleaned = re.sub(r"\W", "_", text)
    return f"_{cleaned}" if not cleaned or cleaned[0].isdigit() or keyword.iskeyword(cleaned) else cleaned


def unit_paths(lowered: Lowered) -> set[str]:
    """Ancestors of the layers: modules that hold layers are the model itself, not units."""
    layers = {layer for call in lowered.calls if (layer := layer_of(call.op.module))}
    return {".".join(layer.split(".")[:n]) for layer in layers for n in range(len(layer.split(".")))}


def unit_path(module: str, ancestors: set[str]) -> str:
    """Path of the unit that a call of `module` belongs to."""
    parts = module.split(".") if module else []
    layer = layer_of(module)
    if layer:
        depth = len(layer.split("."))
        return ".".join(parts[: depth + 1])
    for n in range(1, len(parts) + 1):
        if (path := ".".join(parts[:n])) not in ancestors:
            return path
    return ""


def build(lowered: Lowered, capture: Capture) -> Unit:
    """The tree of units of the decode step. Each distinct layer is one unit below the model."""
    ancestors = unit_paths(lowered)
    root = Unit("")
    units: dict[str, Unit] = {"": root}
    for call in lowered.calls:
        path = unit_path(call.op.module, ancestors)
        parent = _unit(layer_of(path) or "", units, root) if path else root
        (_unit(path, units, parent) if path else root).items.append(call)
    for key, owner in lowered.owners.items():
        units[unit_path(owner, ancestors)].parameters.append(key)
    for unit in units.values():
        _boundary(unit, lowered)
    _name(units, capture, lowered)
    return root


def _unit(path: str, units: dict[str, Unit], parent: Unit) -> Unit:
    if path not in units:
        units[path] = Unit(path)
        parent.items.append(units[path])
    return units[path]


_RANK = {"": 0, "layer": 1, "model": 2}  # order of a forward's arguments: values, the layer's caches, the model's state


def _boundary(unit: Unit, lowered: Lowered) -> None:
    """What a unit reads from outside and what others read of it."""
    mine = unit.all_calls()
    ids = {id(c) for c in mine}
    made = {o for c in mine for o in c.outputs}
    read: list[str] = [v for c in mine for v in c.inputs if v not in made and v not in lowered.parameters]
    unit.inputs = sorted(dict.fromkeys(read), key=lambda v: (_RANK[lowered.states.get(v, "")], read.index(v)))
    used = {v for c in lowered.calls if id(c) not in ids for v in c.inputs} | set(lowered.outputs)
    unit.outputs = [o for c in mine for o in c.outputs if o in used]


def _name(units: Mapping[str, Unit], capture: Capture, lowered: Lowered) -> None:
    """Class and file of each unit; equal units get the same."""
    shapes: dict[tuple, Unit] = {}
    taken: dict[str, tuple] = {}
    # Children first: a unit's structure names its children's classes.
    for unit in sorted(units.values(), key=lambda u: -len(u.path.split(".")) if u.path else 1):
        key = structure(unit, lowered)
        if key in shapes:
            unit.class_name, unit.file = shapes[key].class_name, shapes[key].file
            continue
        base = _class_name(unit, capture)
        name = base
        if taken.get(name, key) != key:
            name = base + _difference(unit)
        if taken.get(name, key) != key:
            name = base + _camel(unit.attribute)
        while taken.get(name, key) != key:
            name += "Variant"
        taken[name] = key
        unit.class_name, unit.file = name, _file(unit)
        shapes[key] = unit


def _difference(unit: Unit) -> str:
    """What a unit does with its input first, as a word, for a variant of a class: `Gathered` where it gathers it."""
    words = {
        "all_gather": "Gathered",
        "all_reduce": "Reduced",
        "reduce_scatter": "Scattered",
        "mesh_partition": "Partitioned",
    }
    return words.get(unit.all_calls()[0].op.name, "")


def _class_name(unit: Unit, capture: Capture) -> str:
    info = capture.modules.get(unit.path)
    name = info.class_name if info else ""
    if name in ("", "Linear", "Embedding", "Module") or not name.isidentifier():
        return _camel(unit.attribute)
    return name


def _file(unit: Unit) -> str:
    names = {call.op.name for call in unit.all_calls()}
    if not unit.path:
        return "model"
    if layer_of(unit.path) == unit.path:
        return ROLE_FILES["layer"]
    if "attention" in names:
        return ROLE_FILES["attention"]
    if names - MOVES <= NORMS:
        return ROLE_FILES["norm"]
    return unit.attribute


def _camel(text: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in text.split("_") if part)


def relative(source: str, unit: Unit) -> str:
    """Checkpoint name of a weight as seen from the unit; the full name where it lies outside (tied weights)."""
    prefix = f"{unit.path}."
    return source[len(prefix) :] if unit.path and source.startswith(prefix) else source


def attribute_of(key: str, unit: Unit, lowered: Lowered) -> str:
    """Attribute of the unit's class that holds a parameter: `q_proj.weight` -> `q_proj`, several joined, constants by their name."""
    parameter = lowered.parameters[key]
    if not parameter.sources:
        return identifier(parameter.attribute)
    names = [relative(source, unit).split(".") for source in parameter.sources]
    kind = names[0][-1]
    stems = [n[-2] if len(n) > 1 else "" for n in names]
    suffix = "_proj" if len(stems) > 1 and all(s.endswith("_proj") for s in stems) else ""
    stem = "".join(s.removesuffix("_proj") for s in stems) + suffix if len(stems) > 1 else stems[0]
    return identifier("_".join(part for part in (stem, "" if kind == "weight" and stem else kind) if part))


def structure(unit: Unit, lowered: Lowered) -> tuple:
    """What makes two units the same class: their calls with values numbered and weights named relative to the unit."""
    numbers: dict[str, int] = {}

    def plain(argument: object) -> object:
        if not isinstance(argument, Ref):
            return repr(argument)
        if argument in lowered.parameters and argument in unit.parameters:
            parameter = lowered.parameters[argument]
            sources = tuple(relative(s, unit) for s in parameter.sources)
            return (parameter.transform, sources, repr(replace(parameter.tensor, name="")), repr(parameter.arguments))
        tensor = lowered.tensors[argument]
        return (numbers.setdefault(argument, len(numbers)), repr(replace(tensor, name="")))

    def values(names: list[str] | tuple[str, ...]) -> tuple:
        return tuple(plain(Ref(n)) for n in names)

    found: list[object] = []
    for item in unit.items:
        if isinstance(item, Unit):
            found.append((item.class_name, item.attribute, values(item.inputs), values(item.outputs)))
        else:
            kwargs = tuple((k, plain(v)) for k, v in item.kwargs.items())
            found.append((item.function, tuple(map(plain, item.args)), kwargs, values(item.outputs), item.names))
    return tuple(found)
