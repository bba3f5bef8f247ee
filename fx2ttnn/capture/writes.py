"""A tensor that is written part by part is the parts side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fx2ttnn.ir import Graph, Op, Ref, TensorSpec

Part = tuple[int, int, Ref]  # start, stop and what was written there


def join_writes(graph: Graph) -> Graph:
    """Where writes into slices of one dim leave nothing of the tensor as it was, a `cat` stands for the last of them.

    What the tensor held before is then read by nobody, as that of one made empty should be.
    """
    written: dict[str, tuple[int, list[Part]]] = {}  # by tensor: the dim, and all that was written
    ops: list[Op] = []
    for op in graph.ops:
        if op.name == "aten.slice_scatter.default" and (part := _part(op, graph.specs)) is not None:
            dim, now = part
            before_dim, before = written.get(op.args[0], (dim, []))
            if before_dim == dim:
                parts = sorted([*before, now])
                written[op.outputs[0]] = dim, parts
                bounds = [bound for start, stop, _ in parts for bound in (start, stop)]
                size = graph.specs[op.outputs[0]].shape[dim]
                if bounds[0] == 0 and bounds[-1] == size and bounds[1:-1:2] == bounds[2:-1:2]:
                    op = replace(op, name="aten.cat.default", args=(tuple(value for *_, value in parts), dim))
        ops.append(op)
    return replace(graph, ops=tuple(ops))


def _part(op: Op, specs: Mapping[str, TensorSpec]) -> tuple[int, Part] | None:
    """The dim and the part of a write into neighbouring places."""
    shape = specs[op.outputs[0]].shape
    given: list[Any] = [*op.args[2:], *(0, None, None, 1)[len(op.args) - 2 :]]
    dim, start, stop, step = given
    places = range(shape[dim])[start:stop]
    return (dim % len(shape), (places.start, places.stop, op.args[1])) if step == 1 else None
