"""Norms over the last dim, of tokens or of heads."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from fx2ttnn.ir import Graph, Op
from fx2ttnn.ops.stored import selected
from fx2ttnn.ops.table import NORM, Strategy, operation, per_element

_ATTRIBUTES = "eps: float, offset: float?, order: tuple?"


def _split(graph: Graph, op: Op) -> list[Strategy]:
    """x [B, S, H], or heads [B, H, S, D]: split anywhere but over the normalised dim, or over it with an exchange of statistics."""
    rank = len(graph.specs[op.inputs[0]].shape)
    vectors = len(op.inputs) - 1
    apart = [Strategy((d, *("R",) * vectors), (d,)) for d in range(rank - 1)]
    if rank == 3:
        apart.append(Strategy((2, *(0,) * vectors), (2,)))
    return apart


@operation(
    "x [... H], weight [H]? -> [... H]",
    _ATTRIBUTES,
    kind=NORM,
    split=_split,
    flops=per_element(4),  # square, sum, times 1 / rms, times weight
    row_by_row=True,
    keeps_heads=True,
)
def rms_norm(run: Any, op: Op, args: list[Any]) -> Any:
    """x / sqrt(mean(x^2) + eps), times weight + `offset`. `order`: heads have columns of zeros (ops/stored.py)."""
    (weight,) = _vectors(op, args) if len(args) > 1 else (None,)
    return F.rms_norm(args[0], args[0].shape[-1:], weight, op.attrs["eps"])


@operation(
    "x [... H], weight [H]?, bias [H]? -> [... H]",
    _ATTRIBUTES,
    kind=NORM,
    split=_split,
    flops=per_element(7),  # sum, less mean, square, sum, times 1 / sigma, times weight, plus bias
    row_by_row=True,
    keeps_heads=True,
)
def layer_norm(run: Any, op: Op, args: list[Any]) -> Any:
    """(x - mean(x)) / sqrt(var(x) + eps), times weight + `offset`, plus bias."""
    weight, bias = (*(_vectors(op, args) if len(args) > 1 else ()), None, None)[:2]
    return F.layer_norm(args[0], args[0].shape[-1:], weight, bias, op.attrs["eps"])


def _vectors(op: Op, args: list[Any]) -> tuple[torch.Tensor, ...]:
    """Weight and bias of a norm; the mean of its squares also counts zeros behind the heads."""
    order = op.attrs.get("order")
    share = order[0] / order[3] if order else 1
    weight, *bias = (selected(vector, None, order) for vector in args[1:])
    return (weight + op.attrs.get("offset", 0)) * share**0.5, *bias
