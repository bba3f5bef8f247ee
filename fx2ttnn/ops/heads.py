"""From tokens to heads and back."""

from __future__ import annotations

from typing import Any

import torch

from fx2ttnn.ir import Graph, Op
from fx2ttnn.ops.stored import selected
from fx2ttnn.ops.table import MOVEMENT, Strategy, operation


@operation(
    "qkv [B S N] -> [B H S D], [B G S D], [B G S D]",
    "heads: int, kv_heads: int, head_dim: int",
    kind=MOVEMENT,
    # It can also pick some of the users, so that from the same on all chips to users apart costs nothing.
    split=lambda graph, op: [
        Strategy((2,), (1, 1, 1)),
        Strategy((1,), (2, 2, 2)),
        Strategy((0,), (0, 0, 0)),
        Strategy(("R",), (0, 0, 0)),
    ],
)
def create_qkv_heads(run: Any, op: Op, args: list[Any]) -> Any:
    """Queries, keys and values that lie side by side, as heads."""
    heads, kv, dim = op.attrs["heads"], op.attrs["kv_heads"], op.attrs["head_dim"]
    parts = args[0].split([heads * dim, kv * dim, kv * dim], dim=-1)
    return tuple(_heads(part, n, dim) for part, n in zip(parts, (heads, kv, kv), strict=True))


@operation(
    "x [B S N] -> [B H S D]",
    "heads: int, head_dim: int",
    kind=MOVEMENT,
    split=lambda graph, op: [Strategy((2,), (1,)), Strategy((0,), (0,))],
)
def split_heads(run: Any, op: Op, args: list[Any]) -> Any:
    """Columns as heads before tokens."""
    return _heads(args[0], op.attrs["heads"], op.attrs["head_dim"])


@operation(
    "x [B S H D] -> [B S N]",
    "heads: int, head_dim: int",
    kind=MOVEMENT,
    split=lambda graph, op: [Strategy((2,), (2,)), Strategy((1,), (1,)), Strategy((0,), (0,))],
)
def concat_heads(run: Any, op: Op, args: list[Any]) -> Any:
    """Heads behind tokens as columns."""
    return args[0].flatten(2)


def _split_multiply(graph: Graph, op: Op) -> list[Strategy]:
    weights = len(op.inputs) - 1
    everywhere = ("R",) * weights
    return [
        Strategy((0, *everywhere), (0,)),
        Strategy((1, *(everywhere if weights > 1 else (0,))), (1,)),
        Strategy((2, *everywhere), (2,)),
    ]


@operation(
    "x [B H S D], weight [...]+ -> [B H S D]",
    "order: tuple?",
    split=_split_multiply,
    keeps_heads=True,
)
def multiply_heads(run: Any, op: Op, args: list[Any]) -> Any:
    """Heads times a weight [H, D], or one [D] for each head."""
    weight = torch.stack(args[1]) if isinstance(args[1], list) else args[1]
    return args[0] * selected(weight.T, None, op.attrs.get("order")).T.unsqueeze(1)


@operation("own [B H S N], shared [B 1 S R] -> [B H S D]", kind=MOVEMENT, planned=False)
def concat_shared_rope(run: Any, op: Op, args: list[Any]) -> Any:
    """Behind each head's own columns those that all heads share."""
    own, shared = args
    return torch.cat((own, shared.expand(*own.shape[:-1], shared.shape[-1])), -1)


def _heads(x: torch.Tensor, heads: int, dim: int) -> torch.Tensor:
    return x.reshape(*x.shape[:2], heads, dim).transpose(1, 2)
