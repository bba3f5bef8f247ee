"""Experts that a model writes out as products of stacks of matrices, each of all tokens, weighed before the first product.

A router's weights, scattered into zeros [T, E], multiply what an expert reads, so that those which a token does not choose add nothing.
"""

from __future__ import annotations

from typing import Any

from fx2ttnn.ir import Graph, Op, Ref
from fx2ttnn.recognise.match import A, const, either, match, second, sources_between, var

_shape, _rows = const("shape"), const("rows")
_WEIGHTS = A.scatter(
    A.full_like(var("logits"), 0.0), const("dim", lambda dim: dim in (1, -1)), var("index"), var("weights")
)
_COPIES = A.repeat(var("hidden"), (const("experts"), 1))
_WEIGHED = A.mul(_COPIES, A.view(A.transpose(_WEIGHTS, 0, 1), (_rows, 1)))
_BOTH = A.bmm(A.view(_WEIGHED, const("stack")), var("up"))
_HALVES = A.chunk(_BOTH, 2, const("last", lambda dim: dim in (2, -1)))
_ACTIVATIONS: dict[str, Any] = {
    "silu": A.silu(_HALVES),
    "gelu": A.gelu(_HALVES),
    "gelu_tanh": A.gelu(_HALVES, approximate="tanh"),
    "relu": A.relu(_HALVES),
    "sigmoid": A.sigmoid(_HALVES),
}


def _experts(activated: Any) -> Any:
    each = A.bmm(A.mul(activated, second(_HALVES)), var("down"))
    return A.sum(either(A.view(A.view(each, _shape), const("stack")), A.view(each, const("stack")), each), (0,))


def experts_of_stacks(graph: Graph) -> Graph:
    """Replace such experts by one `experts(hidden [T, H], index [T, K], weights [T, K], up, down)` that is `weighed` at its "inputs"."""
    producers = graph.producers()
    return graph.with_ops(tuple(_as_one(op, graph, producers) or op for op in graph.ops))


def _as_one(op: Op, graph: Graph, producers: dict[str, Op]) -> Op | None:
    if op.name.split(".")[:2] != ["aten", "sum"]:
        return None
    for activation, activated in _ACTIVATIONS.items():
        found = match(_experts(activated), Ref(op.outputs[0]), producers, {})
        if found is None:
            continue
        args = hidden, *_, up, down = [found[name] for name in ("hidden", "index", "weights", "up", "down")]
        tokens, width = graph.specs[hidden].shape
        experts = graph.specs[up].shape[0]
        of_all = (experts, tokens, width)
        shapes = [graph.specs[value].shape for value in (found["logits"], op.outputs[0])]
        fits = found["experts"] == experts and found["stack"] == of_all and {up, down} <= set(graph.parameters)
        if not fits or shapes != [(tokens, experts), (tokens, width)]:
            continue
        attrs = {"transposed": True, "activation": activation, "gate": "halves", "weighed": "inputs"}
        product = next(o for o in graph.ops if down in o.inputs)
        sources = sources_between(set(args), op, producers)
        return Op("experts", tuple(map(Ref, args)), op.outputs, attrs, product.module, sources)
    return None
