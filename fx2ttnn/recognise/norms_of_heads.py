"""A norm of its own for every head is one norm without weights; then each head has its own weights."""

from __future__ import annotations

from dataclasses import replace

from fx2ttnn.ir import Graph, Op, Ref, TensorSpec
from fx2ttnn.ops import NORMS
from fx2ttnn.recognise.match import pattern_name


def norms_of_heads(graph: Graph) -> Graph:
    """Replace `cat(norm(x's head 0, w0), norm(x's head 1, w1), ...)`, x [B, H, S, D], by `multiply_heads(norm(x), (w0, w1, ...))`."""
    producers = graph.producers()
    ops: list[Op] = []
    specs: dict[str, TensorSpec] = {}
    for op in graph.ops:
        norms = _norms(op, graph, producers)
        if norms is None:
            ops.append(op)
            continue
        first = norms[0]
        split, normal = producers[first.args[0]], Ref(f"{op.outputs[0]}_normal")
        specs[normal] = graph.specs[op.outputs[0]]
        sources = tuple(source for o in (split, *norms) for source in o.sources)
        ops.append(Op(first.name, split.args[:1], (normal,), {"eps": first.attrs["eps"]}, op.module, sources))
        weights = tuple(norm.args[1] for norm in norms)
        ops.append(replace(op, name="multiply_heads", args=(normal, weights)))
    return graph.with_ops(tuple(ops), specs)


def _norms(op: Op, graph: Graph, producers: dict[str, Op]) -> list[Op] | None:
    """The norms of all heads of one value that `op` puts together again, if they differ in their weights only."""
    if pattern_name(op.name) != "cat":
        return None
    norms = [producers[value] for value in op.inputs if value in producers and producers[value].name in NORMS]
    if len(norms) != len(op.inputs) or any(len(n.args) != 2 or n.attrs != norms[0].attrs for n in norms):
        return None
    split = producers.get(norms[0].args[0])
    if split is None or split.outputs != tuple(norm.args[0] for norm in norms) or norms[0].attrs.get("offset"):
        return None
    whole, head = (graph.specs[value].shape for value in (split.inputs[0], split.outputs[0]))
    same = graph.specs[op.outputs[0]].shape == whole and len(whole) == 4
    return norms if same and head == (whole[0], 1, *whole[2:]) and len(norms) == whole[1] else None
