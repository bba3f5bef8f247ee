"""A rotary embedding written out for the two halves of a head, with tables of half a head, becomes one with whole tables.

So does one written out for columns 2 i and 2 i + 1 of a head, whose results it gives as halves: attribute `gives`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fx2ttnn.ir import Graph, Op, Ref, TensorSpec
from fx2ttnn.recognise.match import A, match, pattern_name, var
from fx2ttnn.recognise.tables import append

_first, _second, _cos, _sin = var("first"), var("second"), A.unsqueeze(var("cos"), 1), A.unsqueeze(var("sin"), 1)
_ROTATED = A.cat(
    (
        A.sub(A.mul(_first, _cos), A.mul(_second, _sin)),
        A.add(A.mul(_second, _cos), A.mul(_first, _sin)),
    ),
    -1,
)


def join_halves(graph: Graph) -> Graph:
    """Replace `cat(a cos - b sin, b cos + a sin)` of the halves or neighbours a, b of x [B, H, S, D] by `rotary(x, cos, sin)`."""
    producers = graph.producers()
    whole: dict[tuple[str, bool], Op] = {}  # by table, and whether neighbours read it
    specs: dict[str, TensorSpec] = {}
    ops = []
    for op in graph.ops:
        found = match(_ROTATED, Ref(op.outputs[0]), producers, {}) if pattern_name(op.name) == "cat" else None
        parts = _parts(found, producers, graph) if found else None
        tables = [producers.get(found[name]) for name in ("cos", "sin")] if found else []
        if parts is None or not all(t and t.name == "position_table" for t in tables):
            ops.append(op)
            continue
        x, attrs, sources = parts
        keys = [(table.outputs[0], "pairs" in attrs) for table in tables if table]
        for key in keys:
            if key not in whole:
                whole[key] = _doubled(producers[key[0]], key[1], graph, specs)
                ops.append(whole[key])
        wide = tuple(Ref(whole[key].outputs[0]) for key in keys)
        ops.append(Op("rotary", (x, *wide), op.outputs, attrs, op.module, (*sources, *op.sources)))
    return graph.with_ops(tuple(ops), specs)


def _parts(
    found: Mapping[str, str], producers: Mapping[str, Op], graph: Graph
) -> tuple[Ref, dict[str, str], tuple[str, ...]] | None:
    """What both parts are of, the attributes of its rotation, and FX nodes; None for other parts."""
    first, second = (producers.get(found[name]) for name in ("first", "second"))
    if first is None or second is None or first.args[0] != second.args[0]:
        return None
    x, size = first.args[0], graph.specs[first.args[0]].shape[-1]
    if first is second:
        cut = pattern_name(first.name) == "chunk" and first.args[1:] in ((2, -1), (2, 3))
        return (x, {}, first.sources) if cut and first.outputs == (found["first"], found["second"]) else None
    slices = [op.args[1:] for op in (first, second) if pattern_name(op.name) == "slice"]
    if slices != [(3, 0, size, 2), (3, 1, size, 2)]:
        return None
    return x, {"pairs": "neighbours", "gives": "halves"}, (*first.sources, *second.sources)


def _doubled(table: Op, neighbours: bool, graph: Graph, specs: dict[str, TensorSpec]) -> Op:
    """The table with each row twice: side by side, or each of its numbers twice in a row."""
    value, inner = f"{table.outputs[0]}_{'paired' if neighbours else 'whole'}", table.attrs["table"]
    spec = graph.specs[table.outputs[0]]
    specs[value] = replace(spec, shape=(*spec.shape[:-1], 2 * spec.shape[-1]))
    last = Ref(inner.outputs[0])
    twice = Op("aten.cat.default", ((last, last), -1), (f"{last}_whole",))
    if neighbours:
        twice = Op("aten.repeat_interleave.self_int", (last, 2, -1), (f"{last}_paired",))
    attrs = {**table.attrs, "table": append(inner, twice, specs[value]), "doubled": True}
    return replace(table, outputs=(value,), attrs=attrs)
