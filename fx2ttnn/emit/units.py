"""The emitted classes: the ttnn graph cut along the Hugging Face modules.

A unit is a module that becomes a class: the children of a layer and of the model, the layers, and the model itself. What lies
deeper is inlined. classes.py names the classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from fx2ttnn.errors import UserError
from fx2ttnn.lower.program import Program
from fx2ttnn.lower.values import Call, Lowered, Parameter
from fx2ttnn.names import common_module, identifier, layer_of
from fx2ttnn.ops import MOVES

ROUTER = "router_logits"  # of experts: its module is a unit, although it lies inside another one


# A keyword of the call that is the n-th item of a mode's body; of a child's constructor: its attribute, no number, the argument.
Place = tuple[str, int | None, str]


@dataclass(eq=False)
class Body:
    """What a module does in one mode: its own calls and child units, in order, what it reads and what others read of it."""

    lowered: Lowered
    items: list[Call | Unit] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)

    def all_calls(self, mode: str) -> list[Call]:
        """Every call in the body and below, in order."""
        return [
            call
            for item in self.items
            for call in ([item] if isinstance(item, Call) else item.bodies[mode].all_calls(mode))
        ]

    def changed(self, mode: str) -> list[str]:
        """What it reads and writes over, caches apart."""
        written = {value for call in self.all_calls(mode) for value in call.writes}
        return [value for value in self.inputs if value in written and value not in self.lowered.states]


@dataclass(eq=False)
class Unit:
    """A module of the model that becomes a class, with a body for each mode; `path` is empty for the model."""

    path: str
    bodies: dict[str, Body] = field(default_factory=dict)
    parameters: list[str] = field(default_factory=list)
    class_name: str = ""
    file: str = ""
    role: str = ""  # what configurations of the class are named after
    arguments: dict[str, tuple[Call, str]] = field(
        default_factory=dict
    )  # of its constructor: the call and keyword that take each
    open: dict[Place, str] = field(default_factory=dict)  # where its class takes an argument of the constructor

    @property
    def attribute(self) -> str:
        return identifier(self.path.rsplit(".", 1)[-1])

    @property
    def children(self) -> list[Unit]:
        """Child units in the order in which they first run."""
        return list(dict.fromkeys(i for body in self.bodies.values() for i in body.items if isinstance(i, Unit)))

    def tree(self) -> list[Unit]:
        """The unit and all below it, children before parents."""
        return [*(unit for child in self.children for unit in child.tree()), self]

    def all_calls(self) -> list[Call]:
        """Every call in the unit and below, of every mode."""
        return [call for mode, body in self.bodies.items() for call in body.all_calls(mode)]


def unit_paths(calls: Iterable[Call]) -> set[str]:
    """Ancestors of the layers: modules that hold layers are the model itself, not units."""
    layers = {layer for call in calls if (layer := layer_of(call.op.module))}
    return {".".join(layer.split(".")[:n]) for layer in layers for n in range(len(layer.split(".")))}


def unit_path(module: str, ancestors: set[str], inner: set[str] = frozenset()) -> str:  # type: ignore[assignment]
    """Path of the unit that a call of `module` belongs to; modules of `inner` are units however deep they lie."""
    parts = module.split(".") if module else []
    layer = layer_of(module)
    if layer:
        depth = len(layer.split("."))
        return module if module in inner else ".".join(parts[: depth + 1])
    for n in range(1, len(parts) + 1):
        if (path := ".".join(parts[:n])) not in ancestors:
            return path
    return ""


def build(program: Program) -> Unit:
    """The tree of units. Each distinct layer is one unit below the model."""
    ancestors = unit_paths(program.decode.calls)
    inner = {call.op.module for call in program.decode.calls if call.op.name == ROUTER}
    root = Unit("")
    units: dict[str, Unit] = {"": root}
    users: dict[str, Unit] = {}  # of resources: the unit whose call takes them
    for mode, lowered in program.modes.items():
        own = {id(call): unit_path(call.op.module, ancestors, inner) for call in lowered.calls}
        readers: dict[str, list[Call]] = {}
        for call in lowered.calls:
            for value in call.inputs:
                readers.setdefault(value, []).append(call)
        for call in lowered.calls:
            path = own[id(call)]
            if call.op.name in MOVES and (path not in units or mode not in units[path].bodies):
                path = _holds_all(path, call, readers, own)
            steps = _steps(path)
            body, holder = _body(root, mode, lowered), root
            for step in list(steps)[1:]:
                unit = units.setdefault(step, Unit(step))
                if unit not in body.items:
                    body.items.append(unit)
                elif _runs_again(unit, call, body, mode):
                    break
                body, holder = _body(unit, mode, lowered), unit
            body.items.append(call)
            users |= {value: holder for value in call.inputs if _is_resource(value, lowered)}
    for key, owner in program.owners.items():
        (users.get(key) or units[unit_path(owner, ancestors, inner)]).parameters.append(key)
    for unit in units.values():
        for mode, body in unit.bodies.items():
            _boundary(body, mode)
    return root


def _holds_all(path: str, move: Call, readers: Mapping[str, list[Call]], own: Mapping[int, str]) -> str:
    """The unit that holds all units of the layer which read what `move` gives: none of them hands on to others what was moved for it."""
    paths, todo = [path], list(move.outputs)
    while todo:
        for call in readers.get(todo.pop(), []):
            if call.op.name in MOVES:
                todo += call.outputs
            else:
                paths.append(own[id(call)])
    common = common_module(paths)
    return common if layer_of(common) and layer_of(common) == layer_of(path) else path


def _runs_again(unit: Unit, call: Call, body: Body, mode: str) -> bool:
    """Whether `call` reads what `body` made after `unit`: then it is of another run of the module, and stands in the body itself.

    UserError where it reads a weight, which only one class may hold.
    """
    later = Body(body.lowered, body.items[body.items.index(unit) + 1 :])
    again = not set(call.inputs).isdisjoint(out for made in later.all_calls(mode) for out in made.outputs)
    weights = (v for v in call.inputs if v in body.lowered.parameters and not _is_resource(v, body.lowered))
    if again and any(weights):
        raise UserError(f"{unit.path} has weights and runs more than once in a step, which fx2ttnn cannot emit")
    return again


def _is_resource(value: str, lowered: Lowered) -> bool:
    return value in lowered.parameters and lowered.parameters[value].resource


def _steps(path: str) -> dict[str, None]:
    """The model, the layer, and the units in it down to `path`."""
    layer = layer_of(path) or ""
    parts = path.split(".")
    inside = (".".join(parts[:n]) for n in range(len(layer.split(".")) + 1, len(parts) + 1)) if layer else (path,)
    return dict.fromkeys(("", layer, *inside))


def _body(unit: Unit, mode: str, lowered: Lowered) -> Body:
    return unit.bodies.setdefault(mode, Body(lowered))


_RANK = {"": 0, "layer": 1, "model": 2}  # order of a forward's arguments: values, the layer's caches, the model's state


def _boundary(body: Body, mode: str) -> None:
    """What a body reads from outside and what others read of it."""
    lowered = body.lowered
    mine = body.all_calls(mode)
    ids = {id(c) for c in mine}
    made = {o for c in mine for o in c.outputs}
    read: list[str] = [v for c in mine for v in c.inputs if v not in made and v not in lowered.parameters]
    body.inputs = sorted(dict.fromkeys(read), key=lambda v: (_RANK[lowered.states.get(v, "")], read.index(v)))
    used = {v for c in lowered.calls if id(c) not in ids for v in c.inputs} | set(lowered.outputs)
    body.outputs = [o for c in mine for o in c.outputs if o in used]


def relative(source: str, unit: Unit) -> str:
    """Checkpoint name of a weight as seen from the unit; the full name where it lies outside (tied weights)."""
    prefix = f"{unit.path}."
    return source[len(prefix) :] if unit.path and source.startswith(prefix) else source


def attribute_of(key: str, unit: Unit, parameters: Mapping[str, Parameter]) -> str:
    """Attribute of the unit's class that holds a parameter; where two would have one name, that of their inner module stands before it."""
    name = _attribute(key, unit, parameters)
    alike = [k for k in unit.parameters if _attribute(k, unit, parameters) == name]
    if alike == [key]:
        return name
    if parameters[key].resource:  # one attribute for all that are the same thing
        kinds = list(dict.fromkeys(replace(parameters[k].tensor, name="") for k in alike))
        number = kinds.index(replace(parameters[key].tensor, name=""))
        return f"{name}_{number + 1}" if number else name
    if len({parameters[k].sources for k in alike}) == 1:  # copies of one weight in several forms
        kind = parameters[key].sources[0].rsplit(".", 1)[-1]
        form = parameters[key].attribute.removeprefix(kind)
        return name + form
    return identifier(f"{relative(parameters[key].sources[0], unit).split('.')[0]}_{name}")


def _attribute(key: str, unit: Unit, parameters: Mapping[str, Parameter]) -> str:
    """The words for a parameter: `q_proj.weight` -> `q_proj`, several joined, constants by their name."""
    parameter = parameters[key]
    if not parameter.sources:
        return identifier(parameter.attribute)
    names = [relative(source, unit).split(".") for source in parameter.sources]
    kind = names[0][-1]
    if parameter.part and kind not in ("weight", "bias"):  # a part of a tensor that is a parameter itself
        return identifier(parameter.part + ("_bias" if "bias" in kind and "bias" not in parameter.part else ""))
    if names == [[kind]] and kind not in ("weight", "bias"):  # a parameter of the unit itself, by the row's name
        return identifier(parameter.attribute)
    stems = [parameter.part] if parameter.part else list(dict.fromkeys(n[-2] if len(n) > 1 else "" for n in names))
    if len(names) > 1 and all(len(n) > 2 and n[-2].isdigit() for n in names):  # of all in a list: by the list
        stems = [names[0][-3]]
    suffix = "_proj" if len(stems) > 1 and all(s.endswith("_proj") for s in stems) else ""
    stem = "".join(s.removesuffix("_proj") for s in stems) + suffix if len(stems) > 1 else stems[0]
    return identifier("_".join(part for part in (stem, "" if kind == "weight" and stem else kind) if part))
