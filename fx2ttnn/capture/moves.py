"""Moves of elements around an attention that a model writes out, as one view and one swap of heads and tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch

from fx2ttnn.graph import interpret
from fx2ttnn.graph.aten import base_name
from fx2ttnn.ir import Graph, Op, Ref, TensorSpec

# Ops that move elements and compute nothing.
_MOVES = {"view", "reshape", "_unsafe_view", "transpose", "permute", "unsqueeze", "squeeze", "flatten", "unflatten"} | {
    "contiguous", "clone", "detach", "alias", "t", "mT", "movedim", "swapaxes",
}  # fmt: skip


def shorten_moves(graph: Graph) -> Graph:
    """Where heads and tokens change places several times before or behind an attention, once or not at all is left.

    What the moves do together is seen by running them on places.
    """
    producers = graph.producers()
    places: dict[str, torch.Tensor] = {}  # value that is an attention's output moved -> the places of its elements
    ops: list[Op] = []
    roots: dict[str, str] = {}
    specs: dict[str, TensorSpec] = {}
    for op in graph.ops:
        if op.name == "attention":
            moves, q = _straight_query(graph, op, producers, specs)
            ops += moves
            op = replace(op, args=(q, *op.args[1:]))
            roots[op.outputs[0]] = op.outputs[0]
            places[op.outputs[0]] = _numbered(graph, op.outputs[0])
        elif base_name(op) in _MOVES and op.inputs[0] in places:
            source, value = op.inputs[0], op.outputs[0]
            places[value] = interpret.run_ops(graph, (op,), {}, {source: places[source]})[value]
            roots[value] = roots[source]
            if torch.equal(places[value].flatten(), torch.arange(places[value].numel())):
                op = replace(
                    op, name="aten.view.default", args=(Ref(roots[source]), graph.specs[value].shape), attrs={}
                )
        ops.append(op)
    return graph.with_ops(tuple(ops), specs)


def _straight_query(
    graph: Graph, attention: Op, producers: Mapping[str, Op], specs: dict[str, TensorSpec]
) -> tuple[list[Op], Ref]:
    """A view and a swap in place of all moves of the queries, if that is what they do together; and what is then read."""
    q = value = attention.args[0]
    moves: list[Op] = []
    while value in producers and base_name(producers[value]) in _MOVES:
        moves.insert(0, producers[value])
        value = moves[0].args[0]
    batch, heads, tokens, width = graph.specs[q].shape
    rows = (batch, tokens, heads, width)
    if not moves:
        return [], q
    moved = interpret.run_ops(graph, tuple(moves), {}, {value: _numbered(graph, value)})[q]
    if torch.equal(moved, _numbered(graph, value)):
        return [], Ref(value)
    if len(moves) < 3 or not torch.equal(moved, torch.arange(moved.numel()).view(rows).transpose(1, 2)):
        return [], q
    first, second = (replace(op, outputs=(f"{attention.outputs[0]}_{i}",)) for i, op in enumerate(moves[-2:]))
    first = replace(first, name="aten.view.default", args=(Ref(value), rows), attrs={})
    second = replace(second, name="aten.transpose.int", args=(Ref(first.outputs[0]), 1, 2), attrs={})
    specs |= {first.outputs[0]: TensorSpec(rows), second.outputs[0]: graph.specs[q]}
    return [first, second], Ref(second.outputs[0])


def _numbered(graph: Graph, value: str) -> torch.Tensor:
    return torch.arange(graph.specs[value].numel).view(graph.specs[value].shape)
