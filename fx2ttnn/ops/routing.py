"""A mixture of experts: a router's steps, and experts side by side whose columns it weighs."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from fx2ttnn.ir import Graph, Op
from fx2ttnn.ops.activations import ACTIVATIONS, glu
from fx2ttnn.ops.elementwise import split_weighed, weighed
from fx2ttnn.ops.table import Strategy, operation


def _split_router(graph: Graph, op: Op) -> list[Strategy]:
    """The best of all experts are wanted: no sum, and no part of the experts."""
    return [Strategy((0, *("R",) * (len(op.inputs) - 1)), (0,))]


def _split_tokens(graph: Graph, op: Op) -> list[Strategy]:
    """All numbers of a token are wanted together; vectors for the last dim lie everywhere."""
    inputs = tuple("R" if value in graph.parameters else 0 for value in op.inputs)
    return [Strategy(inputs, (0,) * len(op.outputs))]


@operation("x [... K], weight [E K], bias [E]? -> [... E]", "transposed: bool?", split=_split_router)
def router_logits(run: Any, op: Op, args: list[Any]) -> Any:
    """A linear that gives a score for each expert, as exact as can be: a small error may choose another expert."""
    return F.linear(*args)


@operation("x [... _] -> [... C], # [... C]", "chosen: int", split=_split_tokens)
def topk(run: Any, op: Op, args: list[Any]) -> Any:
    """The `chosen` largest numbers of each token, and their places."""
    return args[0].topk(op.attrs["chosen"])


@operation("x [... E] -> [... E]", split=_split_tokens)
def softmax(run: Any, op: Op, args: list[Any]) -> Any:
    """Over the last dim."""
    return args[0].softmax(-1)


@operation("x [... _], index# [... C] -> [... C]", split=_split_tokens)
def gather(run: Any, op: Op, args: list[Any]) -> Any:
    """The numbers of each token at the places of `index`."""
    return args[0].gather(-1, args[1])


@operation("x [... C] -> [... C]", "eps: float?, floor: float?", split=_split_tokens)
def renormalize(run: Any, op: Op, args: list[Any]) -> Any:
    """Each number's share of its token's sum, to which `eps` is added or which is at least `floor`."""
    total = args[0].sum(-1, keepdim=True) + op.attrs.get("eps", 0)
    return args[0] / total.clamp(min=op.attrs.get("floor", -torch.inf))


@operation("x [... E], vector [... E] -> [... E]", split=_split_tokens)
def add_vector(run: Any, op: Op, args: list[Any]) -> Any:
    """Each column plus its number of a weight."""
    return args[0] + args[1].flatten()


@operation("x [... E] -> [... E]", "groups: int, best: int, kept: int, fill: float", split=_split_tokens)
def limit_to_groups(run: Any, op: Op, args: list[Any]) -> Any:
    """Scores outside the `kept` best of `groups` of neighbours, by the sum of the `best` in each, become `fill`."""
    groups = args[0].unflatten(-1, (op.attrs["groups"], -1))
    best = groups.topk(op.attrs["best"]).values.sum(-1).topk(op.attrs["kept"]).indices
    kept = torch.zeros(groups.shape[:-1], dtype=torch.bool).scatter(-1, best, True).unsqueeze(-1)
    return torch.where(kept, groups, torch.tensor(op.attrs["fill"])).flatten(-2)


@operation("x [... E], scores [... E], best [... _] -> [... E]", "bound: float, fill: float", split=_split_tokens)
def sparse_mixer_mask(run: Any, op: Op, args: list[Any]) -> Any:
    """x where the score is within `bound` of the best, as a part of its own size or of the best; else `fill`."""
    x, scores, best = args
    return torch.where((best - scores) / scores.abs().maximum(best) > op.attrs["bound"], op.attrs["fill"], x)


@operation("x [... E], index# [... _] -> [... E]", "fill: float", split=_split_tokens)
def mask_selected(run: Any, op: Op, args: list[Any]) -> Any:
    """x with `fill` at the places of `index`."""
    return args[0].scatter(-1, args[1], op.attrs["fill"])


@operation("x [... _], y [... _] -> [... _]", split=_split_tokens)
def concat(run: Any, op: Op, args: list[Any]) -> Any:
    """The numbers of two values side by side."""
    return torch.cat(args, -1)


@operation("x [... C], index# [... C], vector [_] -> [... C]", split=_split_tokens)
def multiply_chosen(run: Any, op: Op, args: list[Any]) -> Any:
    """Each number times that of a weight at its place of `index`."""
    return args[0] * args[2][args[1]]


@operation("index# [B S C], weights [B S C], scores [B S E] -> [B S E]", "experts: int", split=_split_tokens)
def scatter_routing(run: Any, op: Op, args: list[Any]) -> Any:
    """The weight of each expert, zero where it is not chosen; `scores` only give the shape."""
    return torch.zeros(*args[0].shape[:-1], op.attrs["experts"]).scatter(-1, args[0], args[1])


@operation("x [B S N], routing [B S E] -> [B S N]", "experts: int", split=split_weighed)
def scale_by_routing(run: Any, op: Op, args: list[Any]) -> Any:
    """The columns of each expert times its weight."""
    return weighed(*args)


@operation("x [B S N], y [B S N], routing [B S E] -> [B S N], [B S N]", "experts: int", split=split_weighed)
def scale_both_by_routing(run: Any, op: Op, args: list[Any]) -> Any:
    """The same for two values."""
    return tuple(weighed(x, args[2]) for x in args[:2])


@operation(
    "hidden [... H], index# [... C], weights [... C], up [_ _ _], down [_ _ _], up_bias [_ _]?, down_bias [_ _]? -> [... H]",
    "transposed: bool, activation: str, gate: str?, limit: float?, alpha: float?, weighed: str?",
    planned=False,
)
def experts(run: Any, op: Op, args: list[Any]) -> Any:
    """The chosen experts' weighted sum; up [E, 2 I or I, H] and down [E, H, I], or `transposed`.

    `gate`: columns of gate and up lie in "halves" or as "neighbours". `weighed` at their "inputs": these are multiplied, not the outputs.
    """
    hidden, index, weights, up, down, *biases = args
    form: dict[str, Any] = {name: op.attrs.get(name) for name in ("activation", "gate", "limit", "alpha")}
    if not op.attrs["transposed"]:
        up, down = up.mT, down.mT
    at_inputs = op.attrs.get("weighed") == "inputs"
    out = torch.zeros_like(hidden)
    for expert in index.unique().tolist():
        weight = (weights * (index == expert)).sum(-1, keepdim=True)
        inner = (hidden * weight if at_inputs else hidden) @ up[expert] + (biases[0][expert] if biases else 0)
        result = activated(inner, **form) @ down[expert] + (biases[1][expert] if biases else 0)
        out += (weight > 0) * result if at_inputs else weight * result
    return out


def activated(
    x: torch.Tensor, activation: str, gate: str | None, limit: float | None = None, alpha: float | None = None
) -> torch.Tensor:
    """What an expert does between its products: x [.., 2 I] -> [.., I], or [.., I] -> [.., I] without `gate`."""
    if gate is None:
        return ACTIVATIONS[activation](x)
    first, up = x.chunk(2, dim=-1) if gate == "halves" else (x[..., ::2], x[..., 1::2])
    return glu(first, up, activation, limit, alpha)
