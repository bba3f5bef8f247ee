"""A head that is alone says nothing: a linear of [B, 1, S, K] is one of [B, S, K]."""

from __future__ import annotations

from dataclasses import replace

from fx2ttnn.ir import Graph, Op, Ref, TensorSpec
from fx2ttnn.recognise.match import pattern_name


def without_single_heads(graph: Graph) -> Graph:
    """Replace `view(linear(view(x [B, S, K] to [B, 1, S, K])))` by a view of a linear of x."""
    producers = graph.producers()
    specs: dict[str, TensorSpec] = {}
    rows: dict[str, Ref] = {}  # a linear's result [B, 1, S, N] -> the same as [B, S, N]
    ops: list[Op] = []
    for op in graph.ops:
        view = producers.get(op.args[0]) if op.args and isinstance(op.args[0], Ref) else None
        is_view = view is not None and pattern_name(view.name) == "view"
        if view is not None and is_view and pattern_name(op.name) == "linear" and _adds_a_head(view, graph):
            out, spec = Ref(f"{op.outputs[0]}_rows"), graph.specs[op.outputs[0]]
            rows[op.outputs[0]] = out
            specs[out] = replace(spec, shape=(spec.shape[0], *spec.shape[2:]))
            ops.append(replace(op, args=(view.args[0], *op.args[1:]), outputs=(out,)))
            op = Op("aten.view.default", (out, spec.shape), op.outputs, {}, op.module, op.sources)
        elif pattern_name(op.name) == "view" and op.args[0] in rows:
            op = replace(op, args=(rows[op.args[0]], *op.args[1:]))
        ops.append(op)
    return graph.with_ops(tuple(ops), specs)


def _adds_a_head(view: Op, graph: Graph) -> bool:
    before, after = graph.specs[view.args[0]].shape, graph.specs[view.outputs[0]].shape
    return len(before) == 3 and after == (before[0], 1, *before[1:])
