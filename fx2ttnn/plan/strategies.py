"""The ways an operation can run split over one mesh axis: facts about its maths, which stand in the table of operations.

What the strategies cost and which is taken is decided in `search`.
"""

from __future__ import annotations

from fx2ttnn.ir import Graph, Op
from fx2ttnn.ops import TABLE, Strategy


def strategies(graph: Graph, op: Op) -> list[Strategy]:
    """All strategies of `op`; one that the table does not know, such as a plain ATen op, runs whole on every chip."""
    everywhere = Strategy(("R",) * len(op.inputs), ("R",) * len(op.outputs))
    return [everywhere, *(TABLE[op.name].split(graph, op) if op.name in TABLE else [])]
