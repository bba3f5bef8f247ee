"""Positions that a model counts on from the length of its cache are the same for all users to it; here each user has a length of its own.

Of one token, [1], the value for each user is one of [B, 1]; and so is what is computed of it element by element.
"""

from __future__ import annotations

import math
from dataclasses import replace

from fx2ttnn.errors import CaptureError
from fx2ttnn.graph.aten import base_name, is_pointwise
from fx2ttnn.ir import Graph, Op, Ref, TensorSpec

_VIEWS = {"view", "reshape", "_unsafe_view", "unsqueeze"}
_CASTS = {"to", "_to_copy"}


def positions_of_users(graph: Graph) -> Graph:
    """The graph with `position_ids` [B, S] in place of each `own_positions` [S]. Raises CaptureError where users are not told apart by what follows."""
    apart: dict[str, str] = {}  # value for any user -> the same for each, with a first dim of users
    specs: dict[str, TensorSpec] = dict(graph.specs)
    ops: list[Op] = []
    for op in graph.ops:
        if op.name == "own_positions":
            apart[op.outputs[0]] = op.inputs[0]
        elif any(value in apart for value in op.inputs):
            ops.append(_for_users(op, apart, graph, specs))
        else:
            ops.append(op)
    return replace(graph, ops=tuple(ops), specs=specs)


def _for_users(op: Op, apart: dict[str, str], graph: Graph, specs: dict[str, TensorSpec]) -> Op:
    """`op` on what its operands are for each user; notes in `apart` what it gives if that is computed of positions only."""
    users = specs["position_ids"].shape[0]
    out, shape, name = op.outputs[0], graph.specs[op.outputs[0]].shape, base_name(op)
    mine = [value for value in op.inputs if value in apart]
    others = [graph.specs[value].shape for value in op.inputs if value not in apart]
    counted = {len(specs[apart[value]].shape) == len(graph.specs[value].shape) for value in mine}  # a dim of users
    whole = (users, *shape[1:]) if counted == {True} or (name in _VIEWS and shape[:1] == (1,)) else (users, *shape)
    args = tuple(Ref(apart[arg]) if isinstance(arg, Ref) and arg in apart else arg for arg in op.args)
    by_element = (is_pointwise(op) or name in _CASTS) and len(counted) == 1 and not any(others)
    if by_element or name in ("expand", *_VIEWS):
        if name == "expand" and (counted != {True} or shape[1:] != specs[args[0]].shape[1:]):
            raise _error(op)
        if name in _VIEWS and math.prod(whole) != math.prod(specs[args[0]].shape):
            raise _error(op)
        if name in ("expand", *_VIEWS):
            op, args = replace(op, name="aten.view.default"), (args[0], whole)
        apart[out] = f"{out}_of_users"
        specs[apart[out]] = replace(specs[out], shape=whole)
        return replace(op, args=args, outputs=(apart[out],))
    if counted != {True} or shape[:1] != (users,):
        raise _error(op)
    return replace(op, args=args)


def _error(op: Op) -> CaptureError:
    why = "counts positions on from the length of its cache in a form that does not tell users apart"
    return CaptureError(f"{op.module}: the model {why}: {op.name}")
