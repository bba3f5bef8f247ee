"""Python source of a unit: the statements of its `__init__` and `forward`, one for each call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fx2ttnn.emit.configs import Configs, literal
from fx2ttnn.emit.units import Unit, attribute_of, identifier, relative
from fx2ttnn.ir import Ref
from fx2ttnn.lower.values import Call, Construct, Lowered, Memory, Parameter

COLLECTIVES = {"ttnn.all_reduce", "ttnn.all_gather", "ttnn.reduce_scatter", "ttnn.mesh_partition"}


@dataclass(frozen=True)
class Source:
    """A class to emit: `inits` are (attribute, expression) pairs; `statements` are (source line, item of the unit) in order."""

    unit: Unit
    arguments: tuple[str, ...]
    inits: tuple[tuple[str, str], ...]
    statements: tuple[tuple[str, Call | Unit], ...]
    returns: tuple[str, ...]
    child_files: tuple[tuple[str, str], ...]  # (file, class)


class Names:
    """Python names of tensors inside one function: the name a rule gave, unless another live tensor has it."""

    def __init__(self, unit: Unit, lowered: Lowered, preferred: dict[str, str]):
        self.unit, self.lowered, self.preferred = unit, lowered, preferred
        self.of: dict[str, str] = {}
        self.last_use: dict[str, int] = {v: len(unit.items) for v in unit.outputs}
        for index, item in enumerate(unit.items):
            for value in item.inputs:
                self.last_use[value] = max(self.last_use.get(value, -1), index)
        for value in unit.inputs:
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


class Writer:
    """Writes units as source, given the configurations' names."""

    def __init__(self, lowered: Lowered, configs: Configs, links: int):
        self.lowered, self.configs, self.links = lowered, configs, links
        self.preferred = {o: n for c in lowered.calls for o, n in zip(c.outputs, c.names, strict=True)}
        for state in lowered.states:
            self.preferred[state] = identifier(state.rsplit(".", 1)[-1])
        for value in lowered.inputs:
            self.preferred[value] = identifier(value)

    def source(self, unit: Unit) -> Source:
        """Source of a unit below the model."""
        names = Names(unit, self.lowered, self.preferred)
        arguments = tuple(names.of[v] for v in unit.inputs)
        inits = [
            (attribute_of(k, unit, self.lowered), self.load(self.lowered.parameters[k], unit)) for k in unit.parameters
        ]
        assert len({name for name, _ in inits}) == len(inits), f"{unit.path}: two parameters of one name: {inits}"
        inits += [
            (child.attribute, f"{child.class_name}(mesh_device, weights.at({child.path[len(unit.path) + 1 :]!r}))")
            for child in unit.children
        ]
        statements = [(self.statement(item, unit, names, index), item) for index, item in enumerate(unit.items)]
        files = dict.fromkeys((child.file, child.class_name) for child in unit.children)
        return Source(
            unit, arguments, tuple(inits), tuple(statements), tuple(names.of[v] for v in unit.outputs), tuple(files)
        )

    def statement(self, item: Call | Unit, unit: Unit, names: Names, index: int) -> str:
        """One line: a ttnn call or the forward of a child."""
        if isinstance(item, Unit):
            arguments = ", ".join(names.of[v] for v in item.inputs)
            results = names.assign(item.outputs, f"{item.attribute}_output", index)
            return self._assign(results, f"self.{item.attribute}.forward({arguments})", item.outputs)
        return self.call(item, unit, names, index)

    def call(self, call: Call, unit: Unit, names: Names, index: int) -> str:
        """A ttnn call; collectives go through ccl.py, which adds topology and links."""
        args = [self.argument(a, unit, names) for a in call.args]
        kwargs = dict(call.kwargs)
        function = call.function
        if function in COLLECTIVES:
            function = "ccl." + function.removeprefix("ttnn.")
            kwargs.pop("topology", None)
            if kwargs.get("num_links") == self.links:
                kwargs.pop("num_links")
        args += [f"{k}={self.argument(v, unit, names)}" for k, v in kwargs.items()]
        results = names.assign(call.outputs, f"{call.op.name}_output", index)
        return self._assign(results, f"{function}({', '.join(args)})", call.outputs)

    def _assign(self, results: list[str], expression: str, values: tuple[str, ...] | list[str]) -> str:
        if not results:
            return expression
        shapes = ", ".join(str(list(self.lowered.tensors[v].shape)) for v in dict.fromkeys(values))
        return f"{', '.join(results)} = {expression}  # {shapes}"

    def argument(self, value: Any, unit: Unit, names: Names) -> str:
        """Source of one argument."""
        if isinstance(value, Ref):
            if value in self.lowered.parameters:
                return f"self.{attribute_of(value, unit, self.lowered)}"
            return names.of[value]
        if isinstance(value, Memory | Construct):
            return self.configs.expression(value)
        return literal(value)

    def load(self, parameter: Parameter, unit: Unit) -> str:
        """The call of a `Weights` method that makes a parameter."""
        tensor = parameter.tensor
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
        if "P" in tensor.axes:
            args.append(f"partial_axis={tensor.axes.index('P')}")
        if parameter.transform == "linear":
            args.append(f"dtype=ttnn.{tensor.dtype}")
            args.append(f"memory_config={self.configs.expression(tensor.memory)}")
        return f"{holder}.{parameter.transform}({', '.join(args)})"
