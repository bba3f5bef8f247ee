"""What nobody reads."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace

from fx2ttnn.ir import Graph, Op


def without_dead_code(graph: Graph, effects: Container[str] = ()) -> Graph:
    """Drop ops whose results nobody reads, but those named in `effects`."""
    live = set(graph.outputs)
    kept: list[Op] = []
    for op in reversed(graph.ops):
        if op.name in effects or live & set(op.outputs):
            live |= set(op.inputs)
            kept.append(op)
    return graph.with_ops(tuple(reversed(kept)))


def without_unread_values(graph: Graph) -> Graph:
    """Drop parameters, constants and specs that no op and no output names."""
    read = {*graph.outputs, *(value for op in graph.ops for value in op.inputs)}
    named = {*read, *graph.inputs, *(value for op in graph.ops for value in op.outputs)}
    return replace(
        graph,
        specs={name: spec for name, spec in graph.specs.items() if name in named},
        parameters={name: path for name, path in graph.parameters.items() if name in read},
        constants={name: tensor for name, tensor in graph.constants.items() if name in read},
    )
