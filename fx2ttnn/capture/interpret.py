"""Runs a graph with torch on the CPU: the reference that later stages are compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from fx2ttnn.capture.experts import activated
from fx2ttnn.errors import UserError
from fx2ttnn.ir import Graph, Op, Ref

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


_DTYPES = {name: value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
Function = Callable[[Run, Op, list[Any]], Any]  # run, op, arguments -> a tensor, or one per output


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
        function = OPS.get(op.name, _aten)
        result = function(state, op, [_resolve(state, arg) for arg in op.args])
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


def _update_cache(state: Run, op: Op, args: list[Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Writes k and v [B, Hkv, S, D] at each user's positions; gives the layer's whole cache."""
    layer = op.attrs["layer"] if state.acting is None else state.acting[1]
    if layer not in state.cache:
        shapes = [state.graph.specs[output].shape for output in op.outputs]
        state.cache[layer] = (torch.zeros(shapes[0]), torch.zeros(shapes[1]))
    positions = state.inputs["position_ids"]
    users = torch.arange(len(positions))[:, None]
    for store, new in zip(state.cache[layer], args, strict=True):
        store[users, :, positions] = new.transpose(1, 2)
    return state.cache[layer]


def _attention(state: Run, op: Op, args: list[Any]) -> torch.Tensor:
    """q [B, H, S, D] over k, v [B, Hkv, L, D] -> [B, S, H, D]: each token sees the positions up to its own.

    `slopes`: of each head, by how much a score grows with the key's position.
    """
    q, k, v, *sinks = args
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    scores = q @ k.transpose(-1, -2) * op.attrs["scaling"]
    if (cap := op.attrs.get("softcap")) is not None:
        scores = cap * torch.tanh(scores / cap)
    key, query = torch.arange(k.shape[2]), state.inputs["position_ids"][:, None, :, None]
    if slopes := op.attrs.get("slopes"):
        scores = scores + torch.tensor(slopes).view(-1, 1, 1) * (key - query)
    seen = key <= query
    if (window := op.attrs.get("sliding_window")) is not None:
        seen = seen & (key > query - window)
    scores = scores.masked_fill(~seen, -torch.inf)
    if sinks:
        sink = sinks[0].view(1, -1, 1, 1).expand(*scores.shape[:3], 1)
        scores = torch.cat([scores, sink], dim=-1)
    weights = scores.softmax(dim=-1)[..., : k.shape[2]]
    return (weights @ v).transpose(1, 2)


def _experts(state: Run, op: Op, args: list[Any]) -> torch.Tensor:
    """hidden [T, H]; index and weights [T, K]; up [E, 2 I or I, H] and down [E, H, I], or transposed -> [T, H]."""
    hidden, index, weights, up, down, *biases = args
    form: dict[str, Any] = {name: op.attrs.get(name) for name in ("activation", "gate", "limit", "alpha")}
    if not op.attrs["transposed"]:
        up, down = up.mT, down.mT
    out = torch.zeros_like(hidden)
    for expert in index.unique().tolist():
        weight = (weights * (index == expert)).sum(-1, keepdim=True)
        inner = activated(hidden @ up[expert] + (biases[0][expert] if biases else 0), **form)
        out += weight * (inner @ down[expert] + (biases[1][expert] if biases else 0))
    return out


def _layer(state: Run, op: Op, args: list[Any]) -> torch.Tensor:
    """Runs the ops of the layer this one equals, with this layer's weights and cache; hidden [...] -> [...]."""
    like, index = op.attrs["like"], op.attrs["index"]
    ops = tuple(o for o in state.graph.ops if o.module == like or o.module.startswith(f"{like}."))
    own = replace(state, acting=(like, index), values={**state.values, op.attrs["takes"]: args[0]})
    _run_ops(own, ops)
    return own.values[op.attrs["gives"]]


# Later stages add the ops they introduce.
OPS: dict[str, Function] = {
    "update_cache": _update_cache,
    "attention": _attention,
    "experts": _experts,
    "layer": _layer,
}
