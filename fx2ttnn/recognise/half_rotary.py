"""A rotary embedding written out for the two halves of a head, with tables of half a head, becomes one with whole tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fx2ttnn.ir import Graph, Op, Ref, TensorSpec
from fx2ttnn.recognise.match import A, base_name, match, var
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
    """Replace `cat(a cos - b sin, b cos + a sin)` of the halves a, b of x [B, H, S, D] by `rotary(x, cos, sin)`."""
    producers = graph.producers()
    whole: dict[str, Op] = {}  # by the table of half a head
    specs: dict[str, TensorSpec] = {}
    ops = []
    for op in graph.ops:
        found = match(_ROTATED, Ref(op.outputs[0]), producers, {}) if base_name(op.name) == "cat" else None
        halves = producers.get(found["first"]) if found else None
        tables = [producers.get(found[name]) for name in ("cos", "sin")] if found else []
        if (
            halves is None
            or not _is_halves(halves, found or {})
            or not all(t and t.name == "position_table" for t in tables)
        ):
            ops.append(op)
            continue
        for table in tables:
            if table and table.outputs[0] not in whole:
                whole[table.outputs[0]] = _doubled(table, graph, specs)
                ops.append(whole[table.outputs[0]])
        wide = tuple(Ref(whole[table.outputs[0]].outputs[0]) for table in tables if table)
        ops.append(Op("rotary", (halves.args[0], *wide), op.outputs, {}, op.module, (*halves.sources, *op.sources)))
    return graph.with_ops(tuple(ops), specs)


def _is_halves(op: Op, found: Mapping[str, str]) -> bool:
    cut = base_name(op.name) == "chunk" and op.args[1:] in ((2, -1), (2, 3))
    return cut and op.outputs == (found["first"], found["second"])


def _doubled(table: Op, graph: Graph, specs: dict[str, TensorSpec]) -> Op:
    """The table with each row twice side by side."""
    value, inner = f"{table.outputs[0]}_whole", table.attrs["table"]
    spec = graph.specs[table.outputs[0]]
    specs[value] = replace(spec, shape=(*spec.shape[:-1], 2 * spec.shape[-1]))
    last = Ref(inner.outputs[0])
    cat = Op("aten.cat.default", ((last, last), -1), (f"{last}_whole",))
    return replace(
        table, outputs=(value,), attrs={**table.attrs, "table": append(inner, cat, specs[value]), "doubled": True}
    )
