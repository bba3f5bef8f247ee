"""Which linear layers of a graph are the gate and up projections of an MLP: their weights may have a type of their own (precision.py)."""

from __future__ import annotations

from fx2ttnn.ir import Graph
from fx2ttnn.ops import COLLECTIVES


def gates(graph: Graph) -> frozenset[str]:
    """What the gate and up projections of a graph give: linear layers that only a product with an activation reads, over chips or not."""
    users = graph.users()

    def only_glu(value: str) -> bool:
        readers = users.get(value, [])
        return bool(readers) and all(
            op.name == "glu" or (op.name in COLLECTIVES and only_glu(op.outputs[0])) for op in readers
        )

    return frozenset(op.outputs[0] for op in graph.ops if op.name == "linear" and only_glu(op.outputs[0]))


def gate_parameters(graph: Graph) -> frozenset[str]:
    """The weights of gate and up projections."""
    found = gates(graph)
    return frozenset(v for op in graph.ops if op.outputs[0] in found for v in op.inputs if v in graph.parameters)
