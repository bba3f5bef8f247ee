"""The graph cut at layer boundaries: what stands before the layers, each distinct layer, what stands behind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from fx2ttnn.ir import Capture, Graph, Op, rename
from fx2ttnn.names import layer_of


@dataclass(frozen=True)
class Segment:
    """Consecutive ops; `layer` is the path of the layer they are, `count` how many layers of the model equal it (1 for the rest)."""

    ops: tuple[Op, ...]
    layer: str | None
    count: int
    reads: tuple[str, ...]
    writes: tuple[str, ...]


def layer_order(graph: Graph) -> list[str]:
    """For each layer of the model, in order, the spelled-out layer that it equals."""
    order: dict[str, str] = {}  # by the layer itself; a folded one by what it makes
    for op in graph.ops:
        if op.name == "layer":
            order[op.outputs[0]] = op.attrs["like"]
        elif layer := layer_of(op.module):
            order[layer] = layer
    return [*order.values()]


def layer_counts(graph: Graph) -> dict[str, int]:
    """How many layers of the model each spelled-out layer stands for, itself included."""
    return dict(Counter(layer_order(graph)))


def planned_counts(capture: Capture) -> dict[str, int]:
    """The same, for as many layers as the whole model has, whose first ones these may be: they get the whole model's plan."""
    counts = layer_counts(capture.graph)
    share = (capture.whole_layers or 0) / max(sum(counts.values()), 1)
    return {layer: max(count, round(count * share)) for layer, count in counts.items()}


def without_folded(graph: Graph) -> Graph:
    """The graph without its folded layers: what reads one of them reads the last layer before it that is spelled out."""
    same: dict[str, str] = {}
    ops = []
    for op in graph.ops:
        if op.name == "layer":
            same[op.outputs[0]] = same.get(op.inputs[0], op.inputs[0])
        else:
            ops.append(replace(op, args=rename(op.args, same)))
    return replace(graph.with_ops(tuple(ops)), outputs=tuple(same.get(v, v) for v in graph.outputs))


def segments(graph: Graph, free: frozenset[str], counts: Mapping[str, int]) -> tuple[Segment, ...]:
    """Cut a graph without folded layers. Values in `free` (model inputs, position tables) do not count as crossing a boundary."""
    groups: list[tuple[str | None, list[Op]]] = []
    for op in graph.ops:
        if op.name != "position_table":
            layer = layer_of(op.module)
            if not groups or groups[-1][0] != layer:
                groups.append((layer, []))
            groups[-1][1].append(op)
    users = graph.users()
    found = []
    for layer, ops in groups:
        inside = {out for op in ops for out in op.outputs}
        reads = dict.fromkeys(
            v for op in ops for v in op.inputs if v not in inside and v not in free and v not in graph.parameters
        )
        ids = {id(op) for op in ops}
        writes = [v for v in inside if v in graph.outputs or any(id(user) not in ids for user in users.get(v, ()))]
        found.append(Segment(tuple(ops), layer, counts.get(layer or "", 1), tuple(reads), tuple(sorted(writes))))
    return tuple(found)
