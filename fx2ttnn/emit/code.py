"""Python source of a unit: the statements of its `__init__` and of the forward of each mode, one for each call."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from fx2ttnn.emit.configs import BY_LENGTH, Configs, literal
from fx2ttnn.emit.units import Body, Unit, attribute_of, relative
from fx2ttnn.ir import Ref
from fx2ttnn.lower.lengths import ByLength
from fx2ttnn.lower.program import Program
from fx2ttnn.lower.rules import CONSTANT
from fx2ttnn.lower.values import Call, Lowered, Tensor
from fx2ttnn.names import identifier
from fx2ttnn.ops import COLLECTIVES

# How a call takes a resource that is not one of several in turn.
_TAKEN = dict.fromkeys(CONSTANT, "") | {"global_circular_buffer": ".get()"}


@dataclass(frozen=True)
class Method:
    """A forward to emit: `statements` are (source line, item of the body) in order."""

    mode: str
    arguments: tuple[str, ...]
    statements: tuple[tuple[str, Call | Unit], ...]
    returns: tuple[str, ...]
    opening: tuple[str, ...] = ()  # lines before the statements
    described: tuple[str, ...] = ()  # a line for each argument


@dataclass(frozen=True)
class Source:
    """A class to emit: `inits` are (attribute, expression) pairs."""

    unit: Unit
    inits: tuple[tuple[str, str], ...]
    methods: tuple[Method, ...]
    child_files: tuple[tuple[str, str], ...]  # (file, class)
    prefetched: tuple[str, ...] = ()  # expressions of the weights that are prefetched for a decode step, in order

    @property
    def text(self) -> str:
        """All code of the class, to see what it uses."""
        lines = [line for method in self.methods for line, _ in method.statements]
        return "\n".join([*lines, *(expression for _, expression in self.inits)])


class Names:
    """Python names of tensors inside one function: the name a rule gave, unless another live tensor has it."""

    def __init__(self, body: Body, preferred: Mapping[str, str], mode: str):
        self.preferred, self.mode = preferred, mode
        self.of: dict[str, str] = {}
        self.last_use: dict[str, int] = {v: len(body.items) for v in body.outputs}
        for index, item in enumerate(body.items):
            inputs = item.inputs if isinstance(item, Call) else item.bodies[mode].inputs
            for value in inputs:
                self.last_use[value] = max(self.last_use.get(value, -1), index)
        for value in body.inputs:
            self._give(value, [preferred[value], f"{preferred[value]}_input"], -1)

    def assign(self, values: tuple[str, ...] | list[str], alternative: str, index: int) -> list[str]:
        """Names for the results of item `index`; `alternative` is used where the preferred name is taken."""
        return [
            self._give(v, [self.preferred[v], alternative, f"{alternative}_{self.preferred[v]}"], index) for v in values
        ]

    def _give(self, value: str, options: list[str], index: int) -> str:
        live = {name for v, name in self.of.items() if self.last_use.get(v, -1) > index}
        self.of[value] = next((o for o in options if o not in live), f"{options[-1]}_{index}")
        return self.of[value]


class Numbered:
    """The same, where only the code's structure matters: each value has a number for a name."""

    def __init__(self, body: Body, mode: str):
        self.mode = mode
        self.of: dict[str, str] = {}
        self.assign(body.inputs)

    def assign(self, values: Sequence[str], alternative: str = "", index: int = 0) -> list[str]:
        """Names for these values."""
        self.of |= {value: f"value_{len(self.of) + n}" for n, value in enumerate(values)}
        return [self.of[value] for value in values]


class Writer:
    """Writes units as source, given the configurations' names."""

    def __init__(self, program: Program, configs: Configs):
        self.program, self.configs, self.links = program, configs, program.plan.target.links
        self.preferred = {mode: _preferred(lowered) for mode, lowered in program.modes.items()}

    def source(self, unit: Unit) -> Source:
        """Source of a unit below the model."""
        kept = dict.fromkeys(name for (_, item, _), name in unit.open.items() if item is not None)
        inits = [*((name, name) for name in kept), *self.constructor(unit)]
        files = dict.fromkeys((child.file, child.class_name) for child in unit.children)
        methods = tuple(self.method(unit, mode) for mode in unit.bodies)
        return Source(unit, tuple(inits), methods, tuple(files), tuple(self.prefetched(unit)))

    def prefetched(self, unit: Unit) -> Iterator[str]:
        """Expressions of the weights that are prefetched for a decode step of the unit, in the order in which it reads them."""
        for item in unit.bodies["decode"].items if "decode" in unit.bodies else ():
            if isinstance(item, Unit):
                if prefetched(item):
                    yield f"*self.{item.attribute}.prefetched()"
            elif "global_cb" in item.kwargs:
                yield f"self.{attribute_of(item.args[1], unit, self.program.parameters)}"

    def constructor(self, unit: Unit) -> list[tuple[str, str]]:
        """(attribute, expression) of the unit's own parameters and of its children."""
        inits = self.inits(unit)
        assert len({name for name, _ in inits}) == len(inits), f"{unit.path}: two parameters of one name: {inits}"
        return inits + [(child.attribute, self.construct(child, unit)) for child in unit.children]

    def construct(self, unit: Unit, parent: Unit | None = None) -> str:
        """The expression that makes a unit, inside the class of its parent or from all weights."""
        path = unit.path[len(parent.path) + 1 :] if parent and parent.path else unit.path
        handed = {name: parent.open.get((unit.attribute, None, name)) for name in unit.arguments} if parent else {}
        arguments = (f", {name}={handed.get(name) or self.given(unit, name)}" for name in unit.arguments)
        return f"{unit.class_name}(mesh_device, weights.at({path!r}){''.join(arguments)})"

    def given(self, unit: Unit, name: str) -> str:
        """What a unit is made with for an argument of its class."""
        call, keyword = unit.arguments[name]
        if keyword not in call.kwargs:
            return "None"
        return self.configs.argument(call, keyword, call.kwargs[keyword]).removesuffix(BY_LENGTH)

    def inits(self, unit: Unit) -> list[tuple[str, str]]:
        """(attribute, expression) of the unit's own parameters."""
        parameters = self.program.parameters
        own = [(k, (attribute_of(k, unit, parameters), self.load(k, unit))) for k in unit.parameters]
        held = [init for key, init in own if not parameters[key].resource]
        return held + list(dict.fromkeys(init for key, init in own if parameters[key].resource))

    def method(self, unit: Unit, mode: str, names: Names | Numbered | None = None) -> Method:
        """The forward of one mode."""
        body = unit.bodies[mode]
        names = names or Names(body, self.preferred[mode], mode)
        arguments = tuple(names.of[v] for v in body.inputs)
        statements = tuple((self.statement(item, unit, names, index), item) for index, item in enumerate(body.items))
        opening = self.opening(body, names, [line for line, _ in statements])
        ends = dict.fromkeys(body.changed(mode), "; changed in place")
        described = tuple(f"{names.of[v]}: {self.described(v, mode)}{ends.get(v, '')}" for v in body.inputs)
        return Method(mode, arguments, statements, tuple(names.of[v] for v in body.outputs), opening, described)

    def described(self, value: str, mode: str) -> str:
        """One chip's shape of a tensor, its type, and how chips differ."""
        tensor = self.program.modes[mode].tensors[value]
        shape = str(self.program.shape(mode, value)).replace("'", "")
        return ", ".join([f"{shape} {tensor.dtype}", *split_over(tensor)])

    def arguments(self, unit: Unit, mode: str) -> dict[str, str]:
        """What the forward of a unit takes -> the name of the argument."""
        return Names(unit.bodies[mode], self.preferred[mode], mode).of

    def opening(self, body: Body, names: Names | Numbered, lines: list[str]) -> tuple[str, ...]:
        """Where code depends on the length of the chunk: the line that reads it from an input's shape."""
        if not any(re.search(r"\bseq_len\b", line.partition("  # ")[0]) for line in lines):
            return ()
        for value in body.inputs:
            for dim, size in enumerate(self.program.shape(names.mode, value)):
                if isinstance(size, str):
                    parts = round(
                        1 / float(size.partition(" * ")[2] or 1)
                    )  # the tokens may be divided over a mesh axis
                    return (f"seq_len = {names.of[value]}.shape[{dim}]{f' * {parts}' if parts > 1 else ''}",)
        raise AssertionError("no input of the method has the length of the chunk")

    def statement(self, item: Call | Unit, unit: Unit, names: Names | Numbered, index: int) -> str:
        """One line: a ttnn call or the forward of a child."""
        if isinstance(item, Unit):
            body = item.bodies[names.mode]
            arguments = ", ".join(names.of[v] for v in body.inputs)
            results = names.assign(body.outputs, f"{item.attribute}_output", index)
            call = f"self.{item.attribute}.{names.mode}_forward({arguments})"
            changed = ", ".join(names.of[v] for v in body.changed(names.mode))
            line = self._assign(results, call, body.outputs, names.mode)
            return f"{line}; changes {changed}" if changed else line
        return self.call(item, unit, names, index)

    def call(self, call: Call, unit: Unit, names: Names | Numbered, index: int) -> str:
        """A ttnn call; collectives go through ccl.py, which adds topology and links."""
        args = [self.argument(a, call, place, unit, names) for place, a in enumerate(call.args)]
        kwargs = dict(call.kwargs)
        function = call.function
        if (collective := function.removeprefix("ttnn.")) in COLLECTIVES:
            function = f"ccl.{collective}"
            kwargs.pop("topology", None)
            if kwargs.get("num_links") == self.links:
                kwargs.pop("num_links")
        given = {k: f"self.{name}" for (mode, n, k), name in unit.open.items() if (mode, n) == (names.mode, index)}
        for key in kwargs | given:
            length = BY_LENGTH if isinstance(kwargs.get(key), ByLength) else ""
            source = f"{given[key]}{length}" if key in given else self.argument(kwargs[key], call, key, unit, names)
            args.append(f"{key}={source}")
        results = names.assign(call.outputs, f"{call.op.name}_output", index)
        return self._assign(results, f"{function}({', '.join(args)})", call.outputs, names.mode)

    def _assign(self, results: list[str], expression: str, values: tuple[str, ...] | list[str], mode: str) -> str:
        if not results:
            return expression
        shapes = ", ".join(str(self.program.shape(mode, v)).replace("'", "") for v in dict.fromkeys(values))
        return f"{', '.join(results)} = {expression}  # {shapes}"

    def argument(self, value: Any, call: Call, key: str | int, unit: Unit, names: Names | Numbered) -> str:
        """Source of one argument, of the keyword or place `key`."""
        if isinstance(value, Ref):
            if value in self.program.parameters:
                parameter = self.program.parameters[value]
                turn = _TAKEN.get(parameter.transform, ".next()") if parameter.resource else ""
                return f"self.{attribute_of(value, unit, self.program.parameters)}{turn}"
            return names.of[value]
        if isinstance(value, tuple):
            return f"[{', '.join(self.argument(item, call, key, unit, names) for item in value)}]"
        return self.configs.argument(call, key, value)

    def load(self, key: str, unit: Unit) -> str:
        """The call of a `Weights` method that makes a parameter."""
        parameter = self.program.parameters[key]
        tensor = parameter.tensor
        if parameter.transform == "mesh_device":
            return "mesh_device"
        if parameter.resource:
            memory = f"memory_config={self.configs.of_parameter(key)}"
            given = f"{list(tensor.shape)}, ttnn.{tensor.dtype}, {memory}" if tensor.shape else ""
            return f"weights.resources.{parameter.transform}({given})"
        names = [relative(s, unit) for s in parameter.sources]
        inside = [n != s for n, s in zip(names, parameter.sources, strict=True)]
        holder = "weights" if all(inside) else "weights.root"
        args = [repr(n) for n in names] if len(names) == 1 else [repr(names)] if names else []
        alone = len(names) == 1  # `parts` says how several weights are interleaved
        args += [
            f"{k}={literal(v)}" for k, v in parameter.arguments.items() if not (k == "parts" and (alone or v == 1))
        ]
        if any(d is not None for d in tensor.mesh_dims):
            args.append(f"mesh_dims={tensor.mesh_dims!r}")
        if tensor.partial_axes:
            args.append(f"partial_axes={tensor.partial_axes}")
        if parameter.transform == "linear":
            args.append(f"dtype=ttnn.{tensor.dtype}")
        if parameter.transform == "linear" or tensor.memory.kind != "interleaved":
            args.append(f"memory_config={self.configs.of_parameter(key)}")
        return f"{holder}.{parameter.transform}({', '.join(args)})"


def prefetched(unit: Unit) -> bool:
    """Whether a decode step of the unit reads prefetched weights."""
    return "decode" in unit.bodies and any(
        "global_cb" in call.kwargs for call in unit.bodies["decode"].all_calls("decode")
    )


def split_over(tensor: Tensor, dims: Mapping[int, str] = MappingProxyType({})) -> list[str]:
    """What of a tensor each mesh axis splits, in words; `dims` name some of its dims."""
    found = []
    for part in dict.fromkeys(axis for axis in tensor.axes if axis != "R"):
        axes = [str(n) for n, axis in enumerate(tensor.axes) if axis == part]
        over = f"mesh axis {axes[0]}" if len(axes) == 1 else f"mesh axes {' and '.join(axes)}"
        found.append(
            f"summands over {over}" if part == "P" else f"{dims.get(int(part), f'dim {part}')} split over {over}"
        )
    return found


def _preferred(lowered: Lowered) -> dict[str, str]:
    """The Python name that each tensor of a graph would like."""
    made = {o: n for call in lowered.calls for o, n in zip(call.outputs, call.names, strict=True)}
    states = {state: identifier(state.rsplit(".", 1)[-1]) for state in lowered.states}
    return made | states | {value: identifier(value) for value in lowered.inputs}
