"""The pattern table: from ATen to the operations of a transformer.

A row says: this expression of captured ops is that operation. Rows are tried in order until none applies. What no row knows
stays the plain op it was. Nothing here knows a model: only maths.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fx2ttnn.ir import Graph, Op, Ref, TensorSpec
from fx2ttnn.recognise.match import A, Bindings, Node, const, one_of, var

ACTIVATIONS = {"silu", "gelu", "relu", "sigmoid", "tanh"}


@dataclass(frozen=True)
class Pattern:
    """`expression` becomes op `name` with the bound `args` and `attrs`.

    `accept` sees the graph, the matched op and the bindings, and refuses or completes a match: it returns the attributes to add, or None.
    `split` names a bound view that stays behind the new op: `transpose(norm(view(x)))` becomes `norm(transpose(view(x)))`.
    """

    name: str
    expression: Node
    args: tuple[str, ...]
    attrs: tuple[str, ...] = ()
    accept: Callable[[Graph, Op, Bindings], dict[str, Any] | None] | None = None


x, y, w, b, cos, sin, gate, up = (var(n) for n in ("x", "y", "w", "b", "cos", "sin", "gate", "up"))
eps, scale, dim, half, end, cap = (const(n) for n in ("eps", "scale", "dim", "half", "end", "cap"))


def _inverse_rms(of: Any) -> Node:
    return A.rsqrt(A.add(A.mean(A.pow(of, 2), (-1,), True), eps))


def _splits_heads(graph: Graph, op: Op, found: Bindings) -> dict[str, Any] | None:
    """A view from [B, S, H * D] to [B, S, H, D], then heads before tokens."""
    before, after = graph.specs[found["x"]].shape, graph.specs[op.outputs[0]].shape
    fits = len(before) == 3 and len(after) == 4 and after[1] * after[3] == before[2] and after[::2] == before[:2]
    return {"heads": after[1], "head_dim": after[3]} if fits else None


def _merges_heads(graph: Graph, op: Op, found: Bindings) -> dict[str, Any] | None:
    """A view from [B, S, H, D] to [B, S, H * D]."""
    before, after = graph.specs[found["x"]].shape, graph.specs[op.outputs[0]].shape
    fits = len(before) == 4 and len(after) == 3 and before[:2] == after[:2]
    return {"heads": before[2], "head_dim": before[3]} if fits else None


def _rotates_halves(graph: Graph, op: Op, found: Bindings) -> dict[str, Any] | None:
    """The second half comes first: x1, x2 -> x1 cos - x2 sin, x2 cos + x1 sin."""
    head_dim = graph.specs[found["x"]].shape[-1]
    fits = found["dim"] in (3, -1) and found["half"] * 2 == head_dim and found["end"] >= head_dim
    return {} if fits else None


def _is_parameter(graph: Graph, op: Op, found: Bindings) -> dict[str, Any] | None:
    return {} if found["w"] in graph.parameters else None


PATTERNS: tuple[Pattern, ...] = (
    Pattern("rms_norm", A.mul(w, A.mul(x, _inverse_rms(x))), ("x", "w"), ("eps",), _is_parameter),
    Pattern(
        "rotary",
        A.add(
            A.mul(x, A.unsqueeze(cos, 1)),
            A.mul(A.cat((A.neg(A.slice(x, dim, half, end)), A.slice(x, dim, 0, half)), -1), A.unsqueeze(sin, 1)),
        ),
        ("x", "cos", "sin"),
        (),
        _rotates_halves,
    ),
    Pattern("gated", A.mul(one_of(ACTIVATIONS, gate, bind="activation"), up), ("gate", "up"), ("activation",)),
    Pattern("split_heads", A.transpose(A.view(x, const("shape")), 1, 2), ("x",), (), _splits_heads),
    Pattern("concat_heads", A.view(x, const("shape")), ("x",), (), _merges_heads),
    Pattern("linear", A.linear(x, w), ("x", "w"), (), _is_parameter),
    Pattern("linear", A.linear(x, w, b), ("x", "w", "b"), (), _is_parameter),
    Pattern("embedding", A.embedding(w, x), ("x", "w"), (), _is_parameter),
    Pattern("embedding", A.embedding(w, x, const("padding")), ("x", "w"), (), _is_parameter),
    Pattern("add", A.add(x, y), ("x", "y")),
)


def move_transpose_before_norm(graph: Graph, op: Op, producers: dict[str, Op]) -> list[Op] | None:
    """`transpose(rms_norm(view(x)))` -> `rms_norm(split_heads(x))`: a norm over the last dim commutes with swapping two others."""
    if not (op.name.startswith("aten.transpose") and op.args[1:] == (1, 2)):
        return None
    norm = producers.get(op.args[0])
    if norm is None or norm.name != "rms_norm":
        return None
    view = producers.get(norm.args[0])
    if view is None or not view.name.startswith(("aten.view", "aten.reshape")):
        return None
    attrs = _splits_heads(graph, op, {"x": view.args[0]})
    if attrs is None:
        return None
    heads = Ref(f"{op.outputs[0]}_heads")
    return [
        Op("split_heads", (view.args[0],), (heads,), attrs, view.module, view.sources + op.sources),
        Op("rms_norm", (heads, *norm.args[1:]), op.outputs, norm.attrs, norm.module, norm.sources),
    ]


def new_spec(graph: Graph, op: Op, like: str) -> dict[str, TensorSpec]:
    """Specs of values that a rewrite introduced: same as value `like`."""
    return {out: graph.specs[like] for out in op.outputs if out not in graph.specs}
