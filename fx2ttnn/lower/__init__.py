"""Apply the rule tables to a plan: every operation becomes ttnn calls with every argument."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fx2ttnn.ir import Op, Ref, refs
from fx2ttnn.lower.facts import BLOCK_SIZE, Facts
from fx2ttnn.lower.host import host_call
from fx2ttnn.lower.lines import Line
from fx2ttnn.lower.rules import RESOURCES, Rule, RuleError, load_rules
from fx2ttnn.lower.values import Call, Construct, Enum, Lowered, Memory, Parameter, Tensor
from fx2ttnn.lower.vocabulary import DRAM
from fx2ttnn.names import identifier
from fx2ttnn.plan import Plan
from fx2ttnn.precision import BYTES


def lower(
    plan: Plan,
    rules: tuple[Rule, ...] | None = None,
    decode: Lowered | None = None,
    given: Mapping[str, Tensor] | None = None,
    host_fallback: bool = False,
) -> Lowered:
    """The ttnn graph of `plan`. Ops that no row takes are listed in `unsupported`, all of them; with `host_fallback`, those
    that torch cannot compute on the host either.

    With `decode`, the graph of a prefill: what its rows call `shared` is the tensor that the decode step holds.
    `given` are the inputs that are no token ids.
    """
    return _Engine(plan, load_rules() if rules is None else rules, decode, given or {}, host_fallback).run()


class _Engine:
    def __init__(
        self,
        plan: Plan,
        rules: tuple[Rule, ...],
        decode: Lowered | None,
        given: Mapping[str, Tensor],
        host_fallback: bool,
    ):
        self.plan, self.decode, self.given, self.host_fallback = plan, decode, given, host_fallback
        self.by_op: dict[str, list[Rule]] = {}
        for rule in rules:
            if rule.mode in (plan.mode, "any"):
                self.by_op.setdefault(rule.op, []).append(rule)
        table = decode.tensors.get("page_table") if decode else None
        self.facts = _Facts(self, table.axes if table else ("R", "R"))
        self.calls: list[Call] = []
        self.tensors: dict[str, Tensor] = {}
        self.versions: dict[str, list[str]] = {}  # value -> names of the tensors that hold it, in different layouts
        self.python: dict[str, str] = {}  # tensor -> Python name
        self.parameters: dict[str, Parameter] = {}
        self.owners: dict[str, str] = {}
        self.states: dict[str, str] = {}
        self.unsupported: list[tuple[Op, str]] = []
        self.inputs: list[str] = []

    def run(self) -> Lowered:
        for value in self.plan.graph.inputs:
            self._add(value, value, self.given.get(value) or self.facts.planned(value, "uint32", "ROW_MAJOR", DRAM))
            self.inputs.append(value)
        for op in self.plan.graph.ops:
            before = len(self.unsupported)
            self._op(op)
            if (
                len(self.unsupported) > before
            ):  # go on as if it were there, so that the report names all such ops at once
                for value in op.outputs:
                    self._add(value, value, self.facts.planned(value))
        outputs = tuple(self.versions[v][-1] for v in self.plan.graph.outputs if v in self.versions)
        return Lowered(
            tuple(self.calls),
            self.tensors,
            self.parameters,
            self.owners,
            tuple(self.inputs),
            outputs,
            self.states,
            tuple(self.unsupported),
            self.plan.mode,
        )

    # -- one operation -------------------------------------------------------------------------------------------------

    def _op(self, op: Op) -> None:
        candidates = self.by_op.get(op.name, [])
        if not candidates:
            self._refuse(op, op.attrs.get("why", "no row in lowering_rules/ for this operation"))
            return
        fitting, refused = [], []
        for rule in candidates:
            scope = self.facts.operands(op, rule)
            wants = self.facts.unfit(op, rule, scope)
            (refused.append(f"{rule.where} wants {wants}") if wants else fitting.append((rule, scope)))
        if not fitting:
            self._refuse(op, "; ".join(refused))
            return
        rule, scope = max(fitting, key=lambda item: item[0].specificity)
        try:
            self._apply(op, rule, scope)
        except ValueError as error:
            self.unsupported.append((op, f"{rule.where}: {error}"))

    def _refuse(self, op: Op, why: str) -> None:
        """No row takes `op`: the host computes it, if it may and can."""
        if self.host_fallback:
            operands = {v: self.tensors[self.versions[v][-1]] for v in op.inputs if v in self.versions}
            result = self.facts.planned(op.outputs[0])
            try:
                call = host_call(op, operands, result, self.plan, why)
            except ValueError as error:
                why = f"{why}; not on the host: {error}"
            else:
                self._add(op.outputs[0], call.names[0], result)
                self.calls.append(call)
                return
        self.unsupported.append((op, why))

    def _apply(self, op: Op, rule: Rule, scope: dict[str, Any]) -> None:
        for name, text in rule.layout.items():
            if isinstance(scope[name], Tensor):
                scope[name] = self._in_layout(op, scope[name], self.facts.evaluate(text, scope, rule), rule)
        operands = {name for name in rule.operands if isinstance(scope[name], Tensor)}
        for name in rule.shared:
            scope[name] = self._shared(op, rule, name)
        for name, line in rule.parameters.items():
            value = (
                op.args[rule.operands.index(name)]
                if name in rule.operands and rule.operands.index(name) < len(op.args)
                else ()
            )
            if name in rule.operands and not value:
                scope[name] = None
                continue
            scope[name] = self._parameter(op, name, value, line, scope, rule)
        for name, line in rule.resources.items():
            scope[name] = self._resource(op, name, line, scope, rule)
        for name, line in rule.inputs.items():
            scope[name] = self._state("model", name, name, line, scope, rule)
        for name, line in rule.caches.items():
            scope[name] = self._state("layer", f"{op.module}.{name}", name, line, scope, rule)
        for number, call in enumerate(rule.calls):
            self._call(op, rule, number, call, operands, scope)
        for result, operand in rule.overwrites.items():
            del self.versions[self.facts.value_of(scope[operand])]
            scope[result] = scope[operand]
        for value, name in zip(op.outputs, rule.results, strict=True):
            self.versions[value] = [scope[name].name]

    def _call(self, op: Op, rule: Rule, number: int, call: Line, operands: set[str], scope: dict[str, Any]) -> None:
        args = tuple(self._argument(text, scope, rule) for text in call.args)
        kwargs = {k: self._argument(text, scope, rule) for k, text in call.kwargs.items()}
        kwargs = {k: v for k, v in kwargs.items() if v is not None}
        made = {}
        for position, name in enumerate(call.names):
            value = op.outputs[rule.results.index(name)] if rule.makes_result(number, name) else None
            tensor = self._made(op, rule, call, position, value, args, kwargs, scope)
            named = call.facts[position].get("name", name if name in operands else repr(name))
            python = self._leaf(op) if named == "leaf" else self.facts.evaluate(named, scope, rule)
            python = self.python[python.name] if isinstance(python, Tensor) else python  # as that tensor is named
            self.tensors[tensor.name], self.python[tensor.name], made[name] = tensor, python, tensor
        outputs = tuple(tensor.name for tensor in made.values())
        names = tuple(self.python[output] for output in outputs)
        changed = {scope[name].name for name in (rule.overwrites.values() if call.names else rule.results)}
        writes = tuple(arg for arg in refs((*args, *kwargs.values())) if arg in changed)
        why = rule.why.strip()
        self.calls.append(
            Call(
                call.function,
                args,
                kwargs,
                outputs,
                names,
                op,
                rule.where,
                why,
                writes=writes,
                composite=rule.composite,
            )
        )
        scope |= made

    def _made(
        self,
        op: Op,
        rule: Rule,
        call: Line,
        position: int,
        value: str | None,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        scope: Mapping[str, Any],
    ) -> Tensor:
        """The tensor at `position` of those that `call` makes; `value`: the result that it is.

        What the row does not say of it is as planned, where it is a result, else as of the call's first argument.
        """
        first = self.tensors[args[0][0] if isinstance(args[0], tuple) else args[0]]
        dtype = _type_asked_for((*args, kwargs.get("dtype"))) or first.dtype
        memory = kwargs.get("memory_config", first.memory)
        facts = self._facts(call, position, scope, rule)
        said: dict[str, Any] = {"dtype": dtype, "memory": memory, "layout": "TILE"} | facts
        if value is not None and "shape" not in said:
            return replace(self.facts.planned(value, said["dtype"], said["layout"], said["memory"]), name=value)
        name = value or f"{op.outputs[0]}.{call.names[position]}"
        while name in self.tensors:
            name += "_"
        return Tensor(name, **({"shape": first.shape, "axes": first.axes} | said))

    def _leaf(self, op: Op) -> str:
        """The words of the module whose weight an op reads: q_proj, k_proj, v_proj -> qkv."""
        parent, _, leaf = op.module.rpartition(".")
        leaves = [op.attrs.get("part") or leaf]
        if isinstance(op.args[1], tuple):
            weights = (self.plan.graph.parameters.get(v, "") for v in op.inputs)
            leaves = [n.rsplit(".", 2)[-2] for n in weights if n.endswith(".weight")]
        word = "".join(leaf.removesuffix("_proj") for leaf in dict.fromkeys(leaves))
        return identifier(f"{parent.rpartition('.')[2]}_{word}" if word[:1].isdigit() else word)

    # -- values --------------------------------------------------------------------------------------------------------

    def _add(self, value: str, python: str, tensor: Tensor) -> None:
        self.tensors[tensor.name] = tensor
        self.versions[value] = [tensor.name]
        self.python[tensor.name] = python

    def _in_layout(self, op: Op, x: Tensor, memory: Memory, rule: Rule) -> Tensor:
        """A tensor that holds the same value in `memory`: one that exists, or a new one by way of the `reshard` row."""
        if x.memory == memory:
            return x
        value = self.facts.value_of(x)
        for name in self.versions[value]:
            if self.tensors[name].memory == memory:
                return self.tensors[name]
        reshard = self.by_op["reshard"][0]
        moved = replace(x, name=f"{value}.{len(self.versions[value])}", memory=memory)
        self.tensors[moved.name] = moved
        self.python[moved.name] = self.python[x.name]
        self.versions[value].append(moved.name)
        (call,) = reshard.calls
        made = Op("reshard", (Ref(x.name),), (moved.name,), {}, op.module, op.sources)
        scope = {"x": x, "memory": memory}
        args = tuple(self._argument(text, scope, reshard) for text in call.args)
        why = f"{rule.where} asks for it"
        names = (self.python[x.name],)
        self.calls.append(Call(call.function, args, {}, (moved.name,), names, made, reshard.where, why))
        return moved

    def _parameter(self, op: Op, name: str, value: Any, line: Line, scope: dict[str, Any], rule: Rule) -> Tensor:
        values = value if isinstance(value, tuple) else (value,) if value else ()
        sources = tuple(self.plan.graph.parameters[v] for v in values)
        scope["parameter"] = self._placed(op, values) if values else None
        attribute = self.facts.evaluate(line.facts[0].get("name", repr(name)), scope, rule)
        key = f"{op.outputs[0]}.{attribute}"
        tensor = self._said(key, line, scope, rule)
        given = {k: self.facts.evaluate(text, scope, rule) for k, text in line.kwargs.items()}
        arguments = {k: v for k, v in given.items() if v is not None}
        part = op.attrs.get("part", "")
        self.parameters[key] = Parameter(attribute, line.function, sources, tensor, arguments, part)
        self.owners[key] = op.module
        self.tensors[key] = tensor
        return tensor

    def _resource(self, op: Op, name: str, line: Line, scope: dict[str, Any], rule: Rule) -> Tensor:
        """A persistent buffer, or what is no tensor, such as a semaphore: held like a parameter, by all that ask for the same."""
        key = f"{op.outputs[0]}@{name}"  # no name of a tensor that the other mode makes
        if RESOURCES[line.function]:
            tensor = self._said(key, line, scope, rule)
        else:
            tensor = Tensor(key, (), line.function, "", DRAM)
        self.parameters[key] = Parameter(name, line.function, (), tensor, resource=True)
        self.owners[key], self.tensors[key] = op.module, tensor
        return tensor

    def _said(self, name: str, line: Line, scope: Mapping[str, Any], rule: Rule) -> Tensor:
        """The tensor that a line declares: in tiles, in DRAM and the same on all chips, unless it says otherwise."""
        axes = ("R",) * len(self.plan.target.mesh_shape)
        unsaid: dict[str, Any] = {"layout": "TILE", "memory": DRAM, "axes": axes}
        return Tensor(name, **(unsaid | self._facts(line, 0, scope, rule)))

    def _facts(self, line: Line, position: int, scope: Mapping[str, Any], rule: Rule) -> dict[str, Any]:
        """What a line says of the tensor at `position` of its names: fields of `Tensor`."""
        texts = {fact: text for fact, text in line.facts[position].items() if fact != "name"}
        if (place := line.memory_of(position)) is not None:
            texts["memory"] = place
        said = {field: self.facts.evaluate(text, scope, rule) for field, text in texts.items()}
        return said | ({"shape": tuple(said["shape"])} if "shape" in said else {})

    def _shared(self, op: Op, rule: Rule, name: str) -> Tensor | None:
        """The parameter or the layer's cache that the decode step holds for operand `name` of the same operation."""
        if self.decode is None:
            raise RuleError(f"{rule.where}: {name!r} can be shared with decode in a row of another mode only")
        if (state := f"{op.module}.{name}") in self.decode.states:
            self.states[state] = self.decode.states[state]
            self.tensors[state], self.python[state] = self.decode.tensors[state], name
            return self.tensors[state]
        position = rule.operands.index(name) if name in rule.operands else None
        if position is not None and position >= len(op.args):
            return None
        value = op.args[position] if position is not None else ()
        values = value if isinstance(value, tuple) else (value,)
        sources = tuple(self.plan.graph.parameters[v] for v in values)
        for key, parameter in self.decode.parameters.items():
            table = "stem" in op.attrs and parameter.arguments.get("table") == op.attrs["stem"]
            same = parameter.sources == sources and parameter.arguments.get("rows") == op.attrs.get("rows")
            known = bool(sources) or parameter.attribute == name  # what is made of nothing goes by its name
            if (same and known and self.decode.owners[key] == op.module) or table:
                self.parameters[key], self.owners[key] = parameter, op.module
                self.tensors[key] = parameter.tensor
                return parameter.tensor
        raise ValueError(f"decode holds no {name} for {op.name} of {op.module}")

    def _placed(self, op: Op, values: tuple[str, ...]) -> dict[str, Any]:
        """Sizes and placement of a weight, for expressions: per chip, summed over fused weights."""
        from fx2ttnn.plan.device_shape import local_shape

        mesh = self.plan.target.mesh_shape
        specs = [self.plan.graph.specs[v] for v in values]
        specs = [replace(spec, shape=spec.shape or (1,)) for spec in specs]  # a number is a vector of one
        shapes = [local_shape(spec, self.plan.placements[v], mesh) for spec, v in zip(specs, values, strict=True)]
        parts = self.facts.count(self.plan.placements[values[0]].axes_of(0))
        fill = op.attrs.get("fill", 0) + (parts * shapes[0][0] - specs[0].shape[0] if len(values) == 1 else 0)
        return {
            "n": sum(s[0] for s in shapes),
            "k": shapes[0][-1],
            "axes": self.plan.placements[values[0]].axes,
            "shape": shapes[0],
            "parts": op.attrs.get("parts", parts),
            "fill": fill or None,
        }

    def _state(self, kind: str, key: str, name: str, line: Line, scope: dict[str, Any], rule: Rule) -> Tensor:
        """A run-time tensor: one for the model, or one for each layer."""
        tensor = self._said(key, line, scope, rule)
        if self.tensors.setdefault(key, tensor) != tensor:
            raise ValueError(f"{name!r} is needed as {tensor} and as {self.tensors[key]}")
        self.states[key] = kind
        self.python[key] = name
        return tensor

    # -- expressions ---------------------------------------------------------------------------------------------------

    def _argument(self, text: str, scope: Mapping[str, Any], rule: Rule) -> Any:
        found = self.facts.evaluate(text, scope, rule)
        if isinstance(found, Tensor):
            return Ref(found.name)
        if isinstance(found, list):
            return tuple(Ref(item.name) if isinstance(item, Tensor) else item for item in found)
        return found


class _Facts(Facts):
    """As far as the engine has come: an operand is the tensor that holds it now."""

    def __init__(self, engine: _Engine, user_axes: tuple[str | int, ...]):
        super().__init__(engine.plan, user_axes)
        self.engine = engine

    def value_of(self, x: Tensor) -> str:
        return next(v for v, names in self.engine.versions.items() if x.name in names)

    def operand(self, argument: Any) -> Any:
        if isinstance(argument, Ref) and argument in self.engine.versions:
            return self.engine.tensors[self.engine.versions[argument][-1]]
        return argument


def _type_asked_for(arguments: Sequence[Any]) -> str | None:
    """The data type among the arguments of a call, such as ttnn.float32."""
    names = (argument.name.removeprefix("ttnn.") for argument in arguments if isinstance(argument, Enum))
    return next((name for name in names if name in BYTES), None)


__all__ = ["BLOCK_SIZE", "Call", "Construct", "Enum", "Lowered", "Memory", "Parameter", "Tensor", "lower"]
