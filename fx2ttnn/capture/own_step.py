"""Capture of a model that computes attention in its own code.

Such code may read the length of the cache, so a trace holds for one length. The model is traced at several: what the
attentions are is proved at each (own_attention.py), and all around them must be the same at each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fx2ttnn.capture.clean import clean
from fx2ttnn.capture.moves import shorten_moves
from fx2ttnn.capture.own_attention import Form, as_ops, check_form, form_of, written_attentions
from fx2ttnn.capture.to_graph import to_graph
from fx2ttnn.capture.trace import Trace, trace_step
from fx2ttnn.capture.verify import refuse_uncaptured
from fx2ttnn.errors import CaptureError
from fx2ttnn.ir import Graph, Ref, TensorSpec

_FEW = 7  # tokens of a short prompt
_HELD = (0, 1, 6)  # numbers of tokens that a cache holds before a step


def own_step(
    model: Any, weights: dict[str, TensorSpec], name: str, shape: tuple[int, int], max_seq_len: int
) -> tuple[Trace, Graph]:
    """The trace of a step of [users, tokens], and its graph with `attention` ops over a cache of `max_seq_len` positions.

    Raises CaptureError where the attention is no causal one, or where something else depends on the cache's length.
    """

    def traced(users: int, tokens: int, past: int) -> tuple[Trace, Graph]:
        trace = trace_step(model, (users, tokens), max_seq_len, past)
        graph = to_graph(trace, weights, name)
        refuse_uncaptured(graph)
        return trace, graph

    _, graph = traced(1, 1, max_seq_len - 1)
    forms = [form_of(written) for written in written_attentions(graph)]
    users, tokens = shape
    if tokens == 1:
        steps = [traced(users, 1, past) for past in _HELD if past < max_seq_len]
        for _, graph in steps:
            _check_forms(graph, forms)
        graphs = [_with_forms(graph, forms, max_seq_len) for _, graph in steps]
        _check_same(graphs, _ops_of)
        return steps[0][0], graphs[0]
    few = min(_FEW, tokens, max_seq_len - 1)
    trace, prompt = traced(users, tokens, 0)
    _, short = traced(users, few, 0)
    _check_forms(prompt, forms)
    _check_forms(short, forms)
    # A prompt in chunks gives what the whole prompt gives, for attention that is causal; only the rest is compared.
    behind = [traced(users, few, past)[1] for past in _HELD if 0 < past <= max_seq_len - few]
    short, *behind = (_with_forms(graph, forms, max_seq_len) for graph in (short, *behind))
    _check_same([short, *behind], _ops_of)
    prompt = _with_forms(prompt, forms, max_seq_len)
    _check_same([prompt, short], _names_of)
    return trace, prompt


def _check_forms(graph: Graph, forms: list[Form]) -> None:
    for written, form in zip(written_attentions(graph), forms, strict=True):
        check_form(written, form)


def _with_forms(graph: Graph, forms: list[Form], max_seq_len: int) -> Graph:
    """The graph with `attention` ops, over caches of all positions."""
    for written, form in zip(written_attentions(graph), forms, strict=True):
        graph = as_ops(written, form, graph)
    specs = dict(graph.specs)
    for op in graph.ops:
        for value in op.outputs if op.name == "update_cache" else ():
            users, heads, _, width = specs[value].shape
            specs[value] = replace(specs[value], shape=(users, heads, max_seq_len, width))
    return clean(shorten_moves(clean(replace(graph, specs=specs))))


def _check_same(graphs: list[Graph], of: Callable[[Graph], list[Any]]) -> None:
    first, *others = map(of, graphs)
    if any(other != first for other in others):
        raise CaptureError(
            "the model computes with the length of its cache or of the prompt outside its attention; only the positions may say where a token is"
        )


def _ops_of(graph: Graph) -> list[Any]:
    """What a graph computes, without the names of its values."""
    names: dict[str, Any] = {name: name for name in graph.inputs} | dict(graph.parameters)
    names |= {name: (value.shape, value.numpy().tobytes()) for name, value in graph.constants.items()}

    def plain(arg: Any) -> Any:
        if isinstance(arg, tuple):
            return tuple(map(plain, arg))
        return names[arg] if isinstance(arg, Ref) else repr(arg)

    found = []
    for place, op in enumerate(graph.ops):
        attrs = {key: plain(Ref(value) if key in ("takes", "gives") else value) for key, value in op.attrs.items()}
        shapes = [graph.specs[output].shape for output in op.outputs]
        found.append((op.name, plain(op.args), attrs, op.module, shapes))
        names |= {output: (place, i) for i, output in enumerate(op.outputs)}
    return found


def _names_of(graph: Graph) -> list[Any]:
    return [(op.name, op.module) for op in graph.ops]
