"""Columns between linear layers, of which a mesh axis cannot have whole tiles each, get some of zeros behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fx2ttnn.ir import Graph, Op, Ref
from fx2ttnn.ops import POINTWISE
from fx2ttnn.tiles import TILE

LEAST = 16  # times the zeros that there must be of columns: reading more zeros would cost more than dividing saves


def fill_columns(graph: Graph, parts: int) -> Graph:
    """Linear layers with `fill`, columns of zeros behind their outputs, and their readers with `input_fill`, so that `parts` chips get whole tiles.

    What is made of the zeros element by element, such as a gate times its up projection, meets weights of zero. Columns stay as they are where
    anything else reads them, such as a norm.
    """
    producers, users = graph.producers(), graph.users()
    changed: dict[str, Op] = {}
    specs = dict(graph.specs)
    for op in graph.ops:
        columns = graph.specs[op.outputs[0]].shape[-1] if _plain(op, graph) else 0
        fill = -columns % (parts * TILE)
        if op.outputs[0] in changed or not 0 < fill * LEAST <= columns:
            continue
        values = _alike(op, columns, graph, producers, users)
        for value in values:
            _widen(value, fill, specs)
            for one in {producers[value].outputs: producers[value], **{u.outputs: u for u in users[value]}}.values():
                one = changed.get(one.outputs[0], one)
                if one.name == "linear":
                    side, dim = ("fill", 0) if value in one.outputs else ("input_fill", 1)
                    changed[one.outputs[0]] = replace(one, attrs={**one.attrs, side: fill})
                    for weight in one.inputs[1:]:
                        if side == "fill" or len(graph.specs[weight].shape) == 2:
                            _widen(weight, fill, specs, dim)
    return graph.with_ops(tuple(changed.get(op.outputs[0], op) for op in graph.ops), specs)


def _widen(value: str, fill: int, specs: dict, dim: int = -1) -> None:
    shape = list(specs[value].shape)
    shape[dim] += fill
    specs[value] = replace(specs[value], shape=tuple(shape))


def _plain(op: Op, graph: Graph) -> bool:
    """Whether it is a linear layer of one weight of which all rows are taken as they are."""
    attrs = {"orders", "input_order", "experts", "units", "rows", "transposed"}
    return op.name == "linear" and isinstance(op.args[1], Ref) and not attrs & op.attrs.keys()


def _alike(
    first: Op, columns: int, graph: Graph, producers: Mapping[str, Op], users: Mapping[str, list[Op]]
) -> set[str]:
    """The values that have the columns of what `first` gives: it, and what is made element by element of it and of others like it.

    Nothing where one of them is read or made in another way, or is the model's result.
    """
    found: set[str] = set()
    open_ = [first.outputs[0]]
    while open_:
        value = open_.pop()
        if value in found:
            continue
        found.add(value)
        maker = producers.get(value)
        if maker is None or value in graph.outputs or graph.specs[value].shape[-1] != columns:
            return set()
        for op in (maker, *users[value]):
            if op.name in POINTWISE:  # an activation's number is no value with columns
                open_ += [v for v in (*op.inputs, *op.outputs) if graph.specs[v].numel > 1]
            elif not _plain(op, graph) or (op is not maker and op.args[0] != value):
                return set()
    return found if any(op.name == "linear" for value in found for op in users[value]) else set()
