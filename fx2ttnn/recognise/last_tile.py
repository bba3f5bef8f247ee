"""Of a prompt only the last token's logits are wanted: what follows the layers runs on the tile of rows that holds it."""

from __future__ import annotations

from dataclasses import replace

import torch

from fx2ttnn.errors import CaptureError
from fx2ttnn.graph.aten import function_of, is_pointwise
from fx2ttnn.ir import Graph, Op, Ref, TensorSpec, rename
from fx2ttnn.names import layer_of
from fx2ttnn.ops import ROW_BY_ROW

ROWS = 32  # of a tile


def take_last_tile(graph: Graph) -> Graph:
    """Put a `last_tile` behind the layers: [1, S, H] -> [1, 32, H]; all ops behind it then see 32 rows.

    Raises CaptureError where one of them mixes tokens, so that it would not compute the same for fewer of them.
    """
    last = max(index for index, op in enumerate(graph.ops) if layer_of(op.module))
    layers, tail = graph.ops[: last + 1], graph.ops[last + 1 :]
    inside = {out for op in tail for out in op.outputs}
    tokens = graph.specs[graph.outputs[0]].shape[1]
    for op in tail:
        values = [v for v in (*op.inputs, *op.outputs) if v not in graph.parameters]
        if not _row_by_row(op, graph) or any(
            graph.specs[v].shape[:2] != (1, tokens) for v in values if v not in graph.constants
        ):
            raise CaptureError(f"{op.module or 'the model'}: {op.name} behind the layers mixes tokens")
    entering = dict.fromkeys(
        v for op in tail for v in op.inputs if v not in inside | {*graph.parameters, *graph.constants}
    )
    names = {value: f"{value}_last_tile" for value in entering}
    tiles = tuple(Op("last_tile", (Ref(value),), (name,)) for value, name in names.items())
    specs = {name: _few_rows(graph.specs[value]) for value, name in names.items()}
    specs |= {value: _few_rows(graph.specs[value]) for value in inside}
    return graph.with_ops((*layers, *tiles, *(replace(op, args=rename(op.args, names)) for op in tail)), specs)


def _few_rows(spec: TensorSpec) -> TensorSpec:
    return replace(spec, shape=(spec.shape[0], ROWS, *spec.shape[2:]))


def _row_by_row(op: Op, graph: Graph) -> bool:
    """Whether each row of the results depends on that row of the inputs only; a reduction of the last dim does."""
    if not op.name.startswith("aten."):
        return op.name in ROW_BY_ROW
    return is_pointwise(op) or (
        torch.Tag.reduction in function_of(op).tags
        and op.args[1:] in (((-1,), True), ((len(graph.specs[op.args[0]].shape) - 1,), True))
    )
