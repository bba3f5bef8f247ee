"""Keys and values that a model repeats for each query head before it caches them: the cache holds each once.

`attention` lets groups of neighbouring query heads share one head of the cache, which is the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from fx2ttnn.graph.aten import function_of, is_pointwise
from fx2ttnn.ir import Graph, Op, Ref, TensorSpec
from fx2ttnn.recognise.match import pattern_name


@dataclass(frozen=True)
class _Once:
    """The same as a value of which each head comes `times` in a row along `dim`, with each head once."""

    value: str
    dim: int
    times: int


def heads_once(graph: Graph) -> Graph:
    """Caches of repeated heads hold each head once; attribute `repeated` of their update says how often the model does."""
    producers = graph.producers()
    once: dict[str, _Once] = {}
    specs = dict(graph.specs)
    ops: list[Op] = []
    for op in graph.ops:
        if op.name == "update_cache":
            op = _of_once(op, once, specs)
        elif (made := _made_once(op, once, producers, specs)) is not None:
            ops.append(made[0])
            once[op.outputs[0]] = made[1]
        ops.append(op)
    return graph.with_ops(tuple(ops), specs)


def _of_once(op: Op, once: Mapping[str, _Once], specs: dict[str, TensorSpec]) -> Op:
    found = [once[value] for value in op.args if value in once]
    if [one.dim for one in found] != [1, 1] or found[0].times != found[1].times:
        return op
    times = found[0].times
    for value in op.outputs:
        users, heads, *rest = specs[value].shape
        specs[value] = replace(specs[value], shape=(users, heads // times, *rest))
    return replace(op, args=tuple(Ref(one.value) for one in found), attrs={**op.attrs, "repeated": times})


def _made_once(
    op: Op, once: Mapping[str, _Once], producers: Mapping[str, Op], specs: dict[str, TensorSpec]
) -> tuple[Op, _Once] | None:
    """The op that makes its output with each head once, if it is one of repeated heads."""
    name, out = pattern_name(op.name), op.outputs[0]
    if name in ("flatten", "view") and (start := _merged_expansion(op, producers, specs)) is not None:
        value, dim, times = start
        shape = list(specs[out].shape)
        shape[dim] //= times
        return _new(op, "aten.view.default", (Ref(value), tuple(shape)), _Once(f"{out}_once", dim, times), specs)
    ones = [once[v] for v in op.inputs if v in once]
    if not op.name.startswith("aten.") or len({(one.dim, one.times) for one in ones}) != 1:
        return None
    dim, rank = ones[0].dim, len(specs[out].shape)
    last = op.args[1] % rank == rank - 1 if name in ("slice", "cat") and len(op.args) > 1 else False
    alone = all(v in once or len(specs[v].shape) != rank or specs[v].shape[dim] == 1 for v in op.inputs)
    if name == "transpose":
        swapped = [d % rank for d in op.args[1:]]
        dim = swapped[1 - swapped.index(dim)] if dim in swapped else dim
    elif not (last or is_pointwise(op)) or not alone:
        return None

    def small(arg: Any) -> Any:
        if isinstance(arg, tuple):
            return tuple(map(small, arg))
        return Ref(once[arg].value) if isinstance(arg, Ref) and arg in once else arg

    return _new(op, op.name, small(op.args), replace(ones[0], value=f"{out}_once", dim=dim), specs)


def _merged_expansion(
    op: Op, producers: Mapping[str, Op], specs: Mapping[str, TensorSpec]
) -> tuple[str, int, int] | None:
    """What is expanded along a dim of one, where `op` merges that dim into the one before it; that one, and how often."""
    expand = producers.get(op.args[0])
    if expand is None or pattern_name(expand.name) not in ("expand", "broadcast_to"):
        return None
    before, after, out = (specs[v].shape for v in (expand.args[0], expand.outputs[0], op.outputs[0]))
    if len(before) != len(after):
        return None
    grown = [d for d in range(len(after)) if after[d] != before[d]]
    if len(grown) != 1 or before[grown[0]] != 1 or grown[0] < 2:
        return None
    dim, times = grown[0] - 1, after[grown[0]]
    merged = (*after[:dim], after[dim] * times, *after[dim + 2 :])
    return (expand.args[0], dim, times) if out == merged else None


def _new(op: Op, name: str, args: tuple[Any, ...], once: _Once, specs: dict[str, TensorSpec]) -> tuple[Op, _Once]:
    made = replace(op, name=name, args=args, outputs=(once.value,), attrs={} if name != op.name else op.attrs)

    def meta(arg: Any) -> Any:
        if isinstance(arg, tuple):
            return [meta(item) for item in arg]
        return torch.empty(specs[arg].shape, device="meta") if isinstance(arg, Ref) else arg

    shape = tuple(function_of(made)(*map(meta, args), **made.attrs).shape)
    specs[once.value] = TensorSpec(shape, specs[op.outputs[0]].dtype)
    return made, once
