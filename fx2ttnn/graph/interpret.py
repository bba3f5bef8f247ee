"""Runs a graph with torch on the CPU, by the table of operations: the reference that later stages are compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from fx2ttnn.errors import UserError
from fx2ttnn.ir import Graph, Op, Ref
from fx2ttnn.names import lies_in
from fx2ttnn.ops import TABLE

Cache = dict[int, tuple[torch.Tensor, torch.Tensor]]  # layer -> K, V, each [B, Hkv, max_seq_len, D]


@dataclass(frozen=True)
class Run:
    """What an op may need besides its arguments. `layer`: the layer whose ops run on another layer's behalf, and which."""

    graph: Graph
    inputs: Mapping[str, torch.Tensor]
    cache: Cache
    values: dict[str, torch.Tensor]
    acting: tuple[str, int] | None = None

    def of(self, name: str) -> torch.Tensor:
        """The tensor of a value: computed, constant, or parameter (then of the layer that the run is for)."""
        if name in self.values:
            return self.values[name]
        if name in self.graph.constants:
            return self.graph.constants[name]
        path = self.graph.parameters.get(name, name)
        if self.acting is not None:
            like, index = self.acting
            if path.startswith(f"{like}."):
                path = f"{like.rpartition('.')[0]}.{index}{path.removeprefix(like)}"
        try:
            return self.inputs[path]
        except KeyError:
            raise UserError(f"graph {self.graph.name}: no value given for {path}") from None

    def table(self, table: Graph, positions: torch.Tensor) -> torch.Tensor:
        """What the graph of a `position_table` gives for these positions."""
        return run(table, {"position_ids": positions, "last_position": positions.max()}, {})[0]

    def layer(self, op: Op, hidden: torch.Tensor) -> torch.Tensor:
        """A folded layer: the ops of the layer it equals, with its own weights and cache; hidden [...] -> [...]."""
        like = op.attrs["like"]
        ops = tuple(o for o in self.graph.ops if lies_in(o.module, like))
        own = replace(self, acting=(like, op.attrs["index"]), values={**self.values, op.attrs["takes"]: hidden})
        _run_ops(own, ops)
        return own.values[op.attrs["gives"]]


_DTYPES = {name: value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}


def run(graph: Graph, values: Mapping[str, torch.Tensor], cache: Cache) -> tuple[torch.Tensor, ...]:
    """The graph's outputs. `values`: its inputs by name and the parameters by their name in the checkpoint.

    `cache` is changed in place and may start empty; input `position_ids` [B, S] says where each user's tokens go.
    """
    state = Run(graph, values, cache, {name: values[name] for name in graph.inputs})
    with torch.no_grad():
        _run_ops(state, graph.ops)
    return tuple(state.of(name) for name in graph.outputs)


def run_ops(
    graph: Graph, ops: tuple[Op, ...], inputs: Mapping[str, torch.Tensor], values: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """All values after some of the graph's ops; `inputs` as above, `values` what other ops would have made."""
    state = Run(graph, inputs, {}, {**values, **{name: inputs[name] for name in graph.inputs if name in inputs}})
    with torch.no_grad():
        _run_ops(state, ops)
    return state.values


def _run_ops(state: Run, ops: tuple[Op, ...]) -> None:
    for op in ops:
        compute = TABLE[op.name].compute if op.name in TABLE else _aten
        result = compute(state, op, [_resolve(state, arg) for arg in op.args])
        outputs = (result,) if isinstance(result, torch.Tensor) else result
        state.values.update(zip(op.outputs, outputs, strict=True))


def _resolve(state: Run, arg: Any) -> Any:
    if isinstance(arg, Ref):
        return state.of(arg)
    return [_resolve(state, item) for item in arg] if isinstance(arg, tuple) else arg


def _aten(state: Run, op: Op, args: list[Any]) -> Any:
    """An ATen op by its name, such as `aten.mul.Tensor`."""
    parts = op.name.split(".")
    if len(parts) != 3:
        raise UserError(f"{op.module}: the interpreter does not know op {op.name}")
    namespace, name, overload = parts
    function = getattr(getattr(getattr(torch.ops, namespace), name), overload)
    schema = {a.name: str(a.type) for a in function._schema.arguments}
    kinds = dict(zip(schema, args, strict=False)) | {k: _resolve(state, v) for k, v in op.attrs.items()}
    # The IR names a dtype by a string; ATen wants the dtype itself.
    ready = {k: _DTYPES.get(v, v) if isinstance(v, str) else v for k, v in kinds.items()}
    return function(*[ready[name] for name, _ in zip(schema, args, strict=False)], **{k: ready[k] for k in op.attrs})
