"""Weights stored as [K, N]: products of tokens with them are linears like any other."""

from __future__ import annotations

from dataclasses import replace

from fx2ttnn.ir import Graph, Op, Ref, TensorSpec
from fx2ttnn.recognise.match import pattern_name


def transposed_weights(graph: Graph) -> Graph:
    """A product with a weight stored as [K, N] becomes a `linear` with attribute `transposed`, whose weight is [N, K]."""
    specs, parameters, ops = dict(graph.specs), dict(graph.parameters), []
    for op in graph.ops:
        found = _product(op, graph)
        if found is not None:
            x, weight, *bias = found
            value = Ref(f"{weight}_of_{op.outputs[0]}")
            parameters[value] = parameters[weight]
            specs[value] = TensorSpec(specs[weight].shape[::-1], specs[weight].dtype)
            op = replace(op, name="linear", args=(x, value, *bias), attrs={"transposed": True})
        ops.append(op)
    return replace(graph, ops=tuple(ops), specs=specs, parameters=parameters)


def _product(op: Op, graph: Graph) -> tuple[Ref, ...] | None:
    """Input, weight and perhaps bias of a product of tokens with a parameter."""
    name = pattern_name(op.name)
    if not op.name.startswith("aten.") or name not in ("addmm", "mm", "matmul") or op.attrs:
        return None
    *bias, x, weight = op.args
    known = all(v in graph.parameters for v in (weight, *bias)) and x not in graph.parameters
    return (x, weight, *bias) if known and len(graph.specs[weight].shape) == 2 else None
