"""A rotary embedding written with complex numbers: columns 2 i and 2 i + 1 of a head are one, and turn by a product with another."""

from __future__ import annotations

from dataclasses import replace

from fx2ttnn.ir import Graph, Op, Ref, TensorSpec
from fx2ttnn.recognise.match import A, const, match, pattern_name, var

_NUMBERS = A.view_as_complex(A.view(var("x"), const("paired_shape")))
_TURNED = A.view_as_real(A.mul(_NUMBERS, A.unsqueeze(var("turn"), const("heads", lambda dim: dim in (1, 2)))))
_ROTATED = A.flatten(_TURNED, const("dim", lambda dim: dim in (3, -2)))


def real_rotary(graph: Graph) -> Graph:
    """Replace the product of heads x [B, H, S, D] as complex numbers with `turn` [B, S, D / 2] by `rotary(x, cos, sin)` of neighbours.

    Where tokens come before heads, x [B, S, H, D], the same is written in real numbers, as others write it.
    """
    producers = graph.producers()
    tables: dict[str, tuple[Ref, Ref]] = {}  # by the complex numbers: cosines and sines
    specs: dict[str, TensorSpec] = {}
    ops: list[Op] = []
    for op in graph.ops:
        found = match(_ROTATED, Ref(op.outputs[0]), producers, {}) if pattern_name(op.name) == "flatten" else None
        if found and found["paired_shape"][-1] == 2 and len(found["paired_shape"]) == 5:
            turn = found["turn"]
            if turn not in tables:
                tables[turn] = (Ref(f"{turn}_cos"), Ref(f"{turn}_sin"))
                ops += _parts(turn, op, graph, specs)
            if found["heads"] == 2:
                ops += _written_out(op, found["x"], *tables[turn], graph, specs)
                continue
            attrs = {"pairs": "neighbours"}
            op = Op("rotary", (found["x"], *tables[turn]), op.outputs, attrs, op.module, op.sources)
        ops.append(op)
    return graph.with_ops(tuple(ops), specs)


def _parts(turn: str, op: Op, graph: Graph, specs: dict[str, TensorSpec]) -> list[Op]:
    """What makes tables of cosine and sine [B, S, D] of complex numbers [B, S, D / 2]."""
    *rest, half = graph.specs[turn].shape
    real, whole = TensorSpec((*rest, half), "float32"), TensorSpec((*rest, 2 * half), "float32")
    specs[f"{turn}_real"] = replace(real, shape=(*rest, half, 2))
    made = [Op("aten.view_as_real.default", (Ref(turn),), (f"{turn}_real",), {}, op.module)]
    for place, name in enumerate(("cos", "sin")):
        part, twice = f"{turn}_{name}_half", f"{turn}_{name}"
        specs |= {part: real, twice: whole}
        made.append(Op("aten.select.int", (Ref(f"{turn}_real"), -1, place), (part,), {}, op.module))
        made.append(Op("aten.repeat_interleave.self_int", (Ref(part), 2, -1), (twice,), {}, op.module))
    return made


def _written_out(op: Op, x: Ref, cos: Ref, sin: Ref, graph: Graph, specs: dict[str, TensorSpec]) -> list[Op]:
    """x cos + (-x[2 i + 1], x[2 i]) sin, of x [B, S, H, D] and tables [B, S, D]."""
    out, spec = op.outputs[0], graph.specs[x]
    *rest, width = spec.shape
    half, pairs = replace(spec, shape=(*rest, width // 2)), replace(spec, shape=(*rest, width // 2, 2))
    table = replace(spec, shape=(*rest[:2], 1, width))
    made: list[Op] = []

    def add(name: str, args: tuple[object, ...], spec: TensorSpec, word: str) -> Ref:
        value = f"{out}_{word}" if word else out
        specs[value] = spec
        made.append(Op(f"aten.{name}", args, (value,), {}, op.module, op.sources))
        return Ref(value)

    even, odd = (add("slice.Tensor", (x, 3, start, width, 2), half, f"from_{start}") for start in (0, 1))
    stacked = add("stack.default", ((add("neg.default", (odd,), half, "negative"), even), -1), pairs, "pairs")
    turned = add("flatten.using_ints", (stacked, -2), spec, "turned")
    cos, sin = (add("unsqueeze.default", (t, 2), table, w) for t, w in ((cos, "cos"), (sin, "sin")))
    parts = add("mul.Tensor", (x, cos), spec, "still"), add("mul.Tensor", (turned, sin), spec, "moved")
    add("add.Tensor", parts, spec, "")
    return made
