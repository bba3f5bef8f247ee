"""Queries that are scaled by their position after they are rotated read tables that hold the factor.

factor (x cos + turned(x) sin) = x (factor cos) + turned(x) (factor sin): nothing is left to compute at run time.
"""

from __future__ import annotations

from dataclasses import replace

from fx2ttnn.ir import Graph, Op, Ref
from fx2ttnn.recognise.match import A, const, match, pattern_name, var
from fx2ttnn.recognise.tables import append

_FACTOR = A.unsqueeze(A.unsqueeze(var("factor"), 1), const("last", lambda dim: dim in (3, -1)))  # [B, S] for all heads
_SCALED = A.mul(A.rotary(var("x"), var("cos"), var("sin")), _FACTOR)


def scale_tables(graph: Graph) -> Graph:
    """Replace `mul(rotary(x, cos, sin), factor)`, all three tables of positions, by `rotary(x, factor cos, factor sin)`."""
    producers = graph.producers()
    made: dict[tuple[str, str], Op] = {}
    specs = dict(graph.specs)
    ops: list[Op] = []
    for op in graph.ops:
        found = match(_SCALED, Ref(op.outputs[0]), producers, {}) if pattern_name(op.name) == "mul" else None
        rotary = next((producers[v] for v in op.inputs if v in producers and producers[v].name == "rotary"), None)
        tables = [producers[found[name]] for name in ("cos", "sin", "factor")] if found else []
        if not rotary or not tables or "rotated" in rotary.attrs or any(t.name != "position_table" for t in tables):
            ops.append(op)
            continue
        *turns, factor = tables
        for table in turns:
            key = table.outputs[0], factor.outputs[0]
            if key not in made:
                made[key] = _product(table, factor, graph)
                specs[made[key].outputs[0]] = graph.specs[table.outputs[0]]
                ops.append(made[key])
        scaled = tuple(Ref(made[table.outputs[0], factor.outputs[0]].outputs[0]) for table in turns)
        sources = (*rotary.sources, *op.sources)
        ops.append(replace(rotary, args=(rotary.args[0], *scaled), outputs=op.outputs, sources=sources))
    return graph.with_ops(tuple(ops), specs)


def _product(table: Op, factor: Op, graph: Graph) -> Op:
    """The table [B, S, D] times the factor [B, S]."""
    whole, other = table.attrs["table"], factor.attrs["table"]
    known = {out for op in whole.ops for out in op.outputs}
    ops = (*whole.ops, *(op for op in other.ops if op.outputs[0] not in known))
    inputs = tuple(dict.fromkeys((*whole.inputs, *other.inputs)))
    both = replace(whole.with_ops(ops, other.specs), inputs=inputs, constants={**whole.constants, **other.constants})
    last, times = whole.outputs[0], other.outputs[0]
    column, value = f"{times}_column", f"{table.outputs[0]}_times_{factor.outputs[0]}"
    spec = graph.specs[table.outputs[0]]
    both = append(
        both,
        Op("aten.unsqueeze.default", (Ref(times), -1), (column,)),
        replace(spec, shape=(*spec.shape[:-1], 1)),
    )
    both = append(both, Op("aten.mul.Tensor", (Ref(last), Ref(column)), (value,)), spec)
    attrs = {**table.attrs, "table": both, "factor": True}
    return replace(table, outputs=(value,), attrs=attrs, sources=(*table.sources, *factor.sources))
