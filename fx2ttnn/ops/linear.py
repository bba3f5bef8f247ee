"""Products with a weight."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
import torch.nn.functional as F

from fx2ttnn.ir import Graph, Op
from fx2ttnn.ops.stored import of_experts, selected
from fx2ttnn.ops.table import MATMUL, Sizes, Strategy, operation


def _split(graph: Graph, op: Op) -> list[Strategy]:
    """x [B, S, K], weights [N, K], biases [N]."""
    weights = sum(len(graph.specs[v].shape) == 2 for v in op.inputs[1:])
    biases = len(op.inputs) - 1 - weights
    split_n = Strategy(("R", *(0,) * weights, *(0,) * biases), (2,))
    # A bias is part of the sum, so it lies on one chip and the others hold zero.
    split_k = Strategy((2, *(1,) * weights, *("P",) * biases), ("P",))
    split_users = Strategy((0, *("R",) * (weights + biases)), (0,))
    split_tokens = Strategy((1, *("R",) * (weights + biases)), (1,))
    tokens = [split_tokens] if len(graph.specs[op.inputs[0]].shape) == 3 else []
    return [split_n, split_k, split_users, *tokens]


def _flops(sizes: Sizes, op: Op) -> int:
    """A dot product of K terms is K multiplications and K additions; one addition for a bias."""
    rows = prod(sizes.shape(op.inputs[0])[:-1])
    operands = [sizes.shape(value) for value in op.inputs[1:]]
    return sum(rows * prod(shape) * (2 if len(shape) > 1 else 1) for shape in operands)


@operation(
    "x [... _], weight [_ _]+, bias [_]+? -> [... _]",
    "rows: tuple?, orders: tuple?, input_order: tuple?, experts: str?, transposed: bool?, fill: int?, input_fill: int?, widths: tuple?, units: tuple?, parts: int?, part: str?",
    kind=MATMUL,
    split=_split,
    flops=_flops,
    row_by_row=True,
)
def linear(run: Any, op: Op, args: list[Any]) -> Any:
    """x times weights [N, K], plus biases, their results side by side.

    `rows`, `orders` (one for each weight), `input_order` and `experts` say how a weight is stored (ops/stored.py); `transposed`: as [K, N].
    `fill` columns of zeros stand behind the results, `input_fill` rows of zeros behind those of the weight that meet x.
    Of a fused linear `widths` are the columns of each weight and `units` into how many parts each may be split. `part`: a name for it
    where its weight is a part of what the checkpoint holds.
    """
    x, weights, *biases = args
    order = op.attrs.get("input_order")
    groups = [list(group) if isinstance(group, list) else [group] for group in (weights, *biases)]
    if op.attrs.get("transposed"):
        groups[0] = [weight.mT for weight in groups[0]]
    if side := op.attrs.get("experts"):
        groups = [[of_experts(tensor, side) for tensor in group] for group in groups]
    if order:
        groups[0] = [selected(weight.T, None, order).T for weight in groups[0]]
    rows, orders = (op.attrs.get(key, (None,) * len(groups[0])) for key in ("rows", "orders"))
    joined = ([selected(*s) for s in zip(group, rows, orders, strict=True)] for group in groups)
    fill, input_fill = (op.attrs.get(key, 0) for key in ("fill", "input_fill"))
    weight, *bias = (torch.cat([*group, group[0].new_zeros(fill, *group[0].shape[1:])]) for group in joined)
    return F.linear(x, F.pad(weight, (0, input_fill)), *bias)
