"""Heads of which some columns rotate and the last ones may be the same for all: those of latent attention.

`rotary` with a negative `rotated` turns as many of the last columns of a head. `concat_shared_rope(own [B, H, S, N], shared [B, 1, S, R])` puts
behind each head's own columns those that all heads share, [B, H, S, N + R]; rotary.py makes a sum of it.
"""

from __future__ import annotations

from collections.abc import Mapping

from fx2ttnn.ir import Graph, Op, Ref
from fx2ttnn.recognise.match import A, const, match, pattern_name, var

_SHARED = A.cat((var("own"), A.expand(var("shared"), const("shape"))), const("dim", lambda dim: dim in (3, -1)))


def join_parts_of_heads(graph: Graph) -> Graph:
    """Replace `cat` of a part of a head and its rotated rest by one `rotary`, and of heads and a single one by `concat_shared_rope`."""
    producers = graph.producers()
    ops = tuple(_turned_last(op, graph, producers) or _shared(op, graph, producers) or op for op in graph.ops)
    return graph.with_ops(ops)


def _turned_last(op: Op, graph: Graph, producers: Mapping[str, Op]) -> Op | None:
    rotary = producers.get(op.args[0][1]) if pattern_name(op.name) == "cat" and len(op.args[0]) == 2 else None
    if rotary is None or rotary.name != "rotary" or "rotated" in rotary.attrs:
        return None
    cut = producers.get(rotary.args[0])
    if cut is None or pattern_name(cut.name) != "split_with_sizes" or cut.outputs != (op.args[0][0], rotary.args[0]):
        return None
    if op.args[1] not in (3, -1) or cut.args[2] not in (3, -1):
        return None
    attrs = {**rotary.attrs, "rotated": -graph.specs[rotary.args[0]].shape[-1]}
    sources = (*cut.sources, *rotary.sources, *op.sources)
    return Op("rotary", (cut.args[0], *rotary.args[1:]), op.outputs, attrs, op.module, sources)


def _shared(op: Op, graph: Graph, producers: Mapping[str, Op]) -> Op | None:
    found = match(_SHARED, Ref(op.outputs[0]), producers, {})
    if found is None:
        return None
    own, shared = (graph.specs[found[name]].shape for name in ("own", "shared"))
    if len(own) != 4 or shared[1] != 1 or shared[:1] + shared[2:3] != own[:1] + own[2:3]:
        return None
    return Op("concat_shared_rope", (found["own"], found["shared"]), op.outputs, {}, op.module, op.sources)
