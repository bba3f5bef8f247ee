"""Tables that a model makes anew in every step from nothing but numbers are constants."""

from __future__ import annotations

from dataclasses import replace

import torch

from fx2ttnn.graph import interpret
from fx2ttnn.graph.aten import base_name
from fx2ttnn.ir import Graph, Op

_SOURCES = {
    "arange",
    "full",
    "zeros",
    "ones",
    "linspace",
    "scalar_tensor",
}  # what makes numbers of no tensor, and none at random


def fold_constants(graph: Graph) -> Graph:
    """The graph with what begins at numbers, and reads no input and no weight, as constants. What the model keeps is left as it is used."""
    made: dict[str, torch.Tensor] = {}
    ops: list[Op] = []
    for op in graph.ops:
        known = all(v in made or v in graph.constants for v in op.inputs)
        begins = not op.inputs and base_name(op) in _SOURCES
        if not begins and not (known and any(v in made for v in op.inputs)):
            ops.append(op)
            continue
        alone = Graph(graph.name, (), op.outputs, (op,), {}, {}, {**graph.constants, **made})
        made |= dict(zip(op.outputs, interpret.run(alone, {}, {}), strict=True))
    return replace(graph, ops=tuple(ops), constants={**graph.constants, **made})
