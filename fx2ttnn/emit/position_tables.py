"""Source of the position tables: the captured computation, op by op, in torch's own names."""

from __future__ import annotations

from typing import Any

import torch

from fx2ttnn.ir import Graph, Op, Ref
from fx2ttnn.plan import Plan
from fx2ttnn.recognise.match import pattern_name
from fx2ttnn.recognise.tables import border_of

WRITTEN_OUT = 1024  # most numbers of a constant that stand in the source; others are `held` in a file beside it


def table_context(plan: Plan) -> dict[str, Any]:
    """Tables and constants for the template."""
    tables: list[dict[str, Any]] = []
    constants: dict[str, torch.Tensor] = {}
    for op in plan.capture.graph.ops:
        if op.name != "position_table":
            continue
        graph: Graph = op.attrs["table"]
        names = _names(graph, constants)
        lines = [f"{names[o.outputs[0]]} = {_expression(o, names)}" for o in graph.ops]
        tables.append({"name": op.attrs["stem"], "lines": lines, "result": names[graph.outputs[0]]})
    found = [
        (n, t.flatten().tolist(), str(t.dtype).removeprefix("torch."), tuple(t.shape))
        for n, t in constants.items()
        if t.numel() <= WRITTEN_OUT
    ]
    held = {n: t.contiguous() for n, t in constants.items() if t.numel() > WRITTEN_OUT}
    return {"tables": tables, "constants": found, "held": held, "border": border_of(plan.capture.graph)}


def _names(graph: Graph, constants: dict[str, torch.Tensor]) -> dict[str, str]:
    """Python names of the graph's values: what made them, made unique; equal constants of several tables are one."""
    names = {name: str(name) for name in graph.inputs}
    for value, tensor in graph.constants.items():
        stem = value.rsplit("rotary_emb_", 1)[-1].strip("_") or "constant"
        same = next((n for n, t in constants.items() if t.shape == tensor.shape and torch.equal(t, tensor)), None)
        name = same or _unique(stem, set(constants))
        constants[name] = tensor
        names[value] = name.upper()
    for op in graph.ops:
        names[op.outputs[0]] = _unique(_word(op), set(names.values()))
    return names


def _word(op: Op) -> str:
    return {"matmul": "angles", "cat": "both_halves", "to": "cast", "_to_copy": "cast"}.get(
        pattern_name(op.name), pattern_name(op.name)
    )


def _unique(stem: str, taken: set[str]) -> str:
    name, n = stem, 1
    while name in taken:
        n += 1
        name = f"{stem}_{n}"
    return name


def _expression(op: Op, names: dict[str, str]) -> str:
    name = pattern_name(op.name)
    args = [_argument(a, names) for a in op.args]
    if name in ("to", "_to_copy"):
        return f"{args[0]}.to({', '.join([*args[1:], *(_argument(v, names) for k, v in op.attrs.items() if k == 'dtype')])})"
    if name == "index":
        return f"{args[0]}[{', '.join(':' if i is None else _argument(i, names) for i in op.args[1])}]"
    kwargs = [f"{k}={_argument(v, names)}" for k, v in op.attrs.items()]
    if hasattr(torch.Tensor, name) and name != "where":  # the tensor's method takes the condition second
        return f"{args[0]}.{name}({', '.join(args[1:] + kwargs)})"
    if hasattr(torch, name):
        return f"torch.{name}({', '.join(args + kwargs)})"
    return f"torch.ops.{op.name}({', '.join(args + kwargs)})"


def _argument(value: Any, names: dict[str, str]) -> str:
    if isinstance(value, Ref):
        return names[value]
    if isinstance(value, tuple):
        return "[" + ", ".join(_argument(v, names) for v in value) + "]"
    if isinstance(value, torch.dtype):
        return str(value)
    if isinstance(value, str) and hasattr(torch, value) and isinstance(getattr(torch, value), torch.dtype):
        return f"torch.{value}"
    return repr(value)
