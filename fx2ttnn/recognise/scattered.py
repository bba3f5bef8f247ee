"""A function of numbers that are scattered into a constant is the function of the numbers, scattered into that of the constant.

So a router that makes probabilities of all scores, with minus infinity for the experts that are not chosen, makes them of the chosen.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from fx2ttnn.graph.aten import function_of, is_pointwise
from fx2ttnn.ir import Graph, Op, Ref
from fx2ttnn.recognise.match import A, const, match, var

_SCATTERED = A.scatter(A.full_like(var("like"), const("fill")), const("dim"), var("index"), var("numbers"))


def scatter_last(graph: Graph) -> Graph:
    """Replace `f(scatter(full_like(x, c), dim, index, y))` by `scatter(full_like(x, f(c)), dim, index, f(y))`, for f of one operand."""
    producers = graph.producers()
    specs = dict(graph.specs)
    ops: list[Op] = []
    for op in graph.ops:
        of_one = is_pointwise(op) and len(op.args) == 1 and not op.attrs
        found = match(_SCATTERED, op.args[0], producers, {}) if of_one else None
        if found is None:
            ops.append(op)
            continue
        out, scatter = op.outputs[0], producers[op.args[0]]
        numbers, full = Ref(f"{out}_numbers"), Ref(f"{out}_full")
        specs |= {numbers: specs[found["numbers"]], full: specs[out]}
        fill = function_of(op)(torch.tensor(float(found["fill"]))).item()
        filled = replace(producers[scatter.args[0]], args=(found["like"], fill), outputs=(full,))
        scattered = replace(scatter, args=(full, found["dim"], found["index"], numbers), outputs=(out,))
        ops += [replace(op, args=(found["numbers"],), outputs=(numbers,)), filled, scattered]
        producers |= {new.outputs[0]: new for new in ops[-3:]}
    return replace(graph, ops=tuple(ops), specs=specs)
