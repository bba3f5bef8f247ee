"""What is computed of the cache, each position by itself, is computed of the new tokens before they go into the cache.

So do models that cache a latent vector and expand it to keys and values of all heads: behind this step the cache holds these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import Any

from fx2ttnn.capture.clean import without_dead
from fx2ttnn.graph.aten import base_name, is_pointwise
from fx2ttnn.ir import Graph, Op, Ref, TensorSpec

_SHAPED = {"view", "reshape", "_unsafe_view", "expand"}
_ALONG = {"split": 2, "split_with_sizes": 2, "chunk": 2, "slice": 1, "cat": 1}  # where their dim stands


def expand_before_cache(graph: Graph) -> Graph:
    """Move the ops between a cache and the one attention that reads it before the cache's update.

    Its attribute `expanded_from` says what the model caches in place of keys and values: heads and columns of both.
    Where one of them mixes positions, or something else reads its values, they stay: check_attention then says so.
    """
    for update in graph.ops:
        if update.name == "update_cache":
            graph = _moved(graph, update)
    return without_dead(graph)


def _moved(graph: Graph, update: Op) -> Graph:
    positions = dict.fromkeys(update.outputs, 2)  # value computed of the cache -> its dim of positions
    between: list[Op] = []
    readers: list[Op] = []
    for op in graph.ops:
        if not any(value in positions for value in op.inputs):
            continue
        if op.name == "attention":
            readers.append(op)
            continue
        places = _places(op, positions, graph.specs)
        if places is None:
            return graph
        positions |= places
        between.append(op)
    if not between or len(readers) != 1:
        return graph
    query, *keys_and_values = readers[0].args[:3]
    if query in positions or not all(value in positions for value in keys_and_values):
        return graph
    tokens = graph.specs[update.args[0]].shape[2]
    new = {old: Ref(f"{old}_new") for op in between for old in op.outputs}
    names: dict[str, Any] = {**dict(zip(update.outputs, update.args, strict=True)), **new}
    specs = dict(graph.specs)
    for old, value in new.items():
        shape = list(specs[old].shape)
        shape[positions[old]] = tokens
        specs[value] = replace(specs[old], shape=tuple(shape))
    ops: list[Op] = []
    for op in graph.ops:
        if op is update:
            continue
        if op is readers[0]:
            attrs = {**update.attrs, "expanded_from": tuple(graph.specs[value].shape[1::2] for value in update.args)}
            args = tuple(names[value] for value in keys_and_values)
            ops.append(replace(update, args=args, outputs=tuple(keys_and_values), attrs=attrs))
        if op in between:
            op = _of_new_tokens(op, names, specs)
        ops.append(op)
    return replace(graph, ops=tuple(ops), specs=specs)


def _of_new_tokens(op: Op, names: Mapping[str, Any], specs: Mapping[str, TensorSpec]) -> Op:
    def renamed(arg: Any) -> Any:
        if isinstance(arg, tuple):
            return tuple(map(renamed, arg))
        return names.get(arg, arg) if isinstance(arg, Ref) else arg

    outputs = tuple(str(names[value]) for value in op.outputs)
    args = renamed(op.args)
    if base_name(op) in _SHAPED:
        args = (args[0], specs[outputs[0]].shape)
    return replace(op, args=args, outputs=outputs)


def _places(op: Op, positions: Mapping[str, int], specs: Mapping[str, TensorSpec]) -> dict[str, int] | None:
    """The dim of positions in each output of `op`; None where the op mixes positions, or may."""
    read = [value for value in op.inputs if value in positions]
    shape = specs[read[0]].shape
    dim, rank, name = positions[read[0]], len(shape), base_name(op)
    if any(positions[value] != dim or len(specs[value].shape) != rank for value in read):
        return None
    if name == "linear":
        fits = read == [op.args[0]] and dim != rank - 1
    elif name in _SHAPED and name != "expand":
        after = specs[op.outputs[0]].shape
        before = prod(shape[:dim])
        dims = [d for d, size in enumerate(after) if size == shape[dim] and prod(after[:d]) == before]
        return {op.outputs[0]: dims[-1]} if dims else None
    elif name == "transpose":
        swapped = [d % rank for d in op.args[1:]]
        return {op.outputs[0]: swapped[1 - swapped.index(dim)] if dim in swapped else dim}
    elif name in _ALONG:
        along = op.args[_ALONG[name]] if len(op.args) > _ALONG[name] else 0
        fits = along % rank != dim and len(read) == len(op.inputs)
    elif name == "expand":
        fits = len(specs[op.outputs[0]].shape) == rank
    else:
        fits = is_pointwise(op) and len(read) == len(op.inputs) and len(specs[op.outputs[0]].shape) == rank
    return dict.fromkeys(op.outputs, dim) if fits else None
