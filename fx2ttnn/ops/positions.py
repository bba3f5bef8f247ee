"""What depends on a token's place: tables, rotary embeddings, factors, slopes."""

from __future__ import annotations

import math
from typing import Any

import torch

from fx2ttnn.ir import Op
from fx2ttnn.ops.table import MOVEMENT, Strategy, operation, per_element


@operation(
    "position_ids# [_ _] -> [...]",
    "stem: str, table: graph, border: int, order: tuple?, factor: bool?, doubled: bool?, of_tokens: bool?, beside: bool?",
    kind=MOVEMENT,
    split=lambda graph, op: [Strategy((0,), (0,)), Strategy((1,), (1,))],
)
def position_table(run: Any, op: Op, args: list[Any]) -> Any:
    """Row `position` of a table that the graph `table` computes when the model is built.

    `border`: sequences of more tokens read other rows (0: there is no other kind); `stem`: its name. `order`, `factor`, `doubled`: what was
    made of it; `of_tokens`: it is added to tokens, not to heads; `beside`: it turns heads whose neighbours rotate.
    """
    return run.table(op.attrs["table"], args[0])


@operation(
    "x [B H S D], cos [_ _ _], sin [_ _ _] -> [B H S D]",
    "beside: bool?",
    earlier="pairs: str, rotated: int, gives: str",
    split=lambda graph, op: [Strategy((1, "R", "R"), (1,)), Strategy((2, 1, 1), (2,)), Strategy((0, 0, 0), (0,))],
    flops=per_element(3),  # x cos + rotated x sin
    keeps_heads=True,
)
def rotary(run: Any, op: Op, args: list[Any]) -> Any:
    """x cos + (-x2, x1) sin, for the halves x1, x2 of each head, or `beside`: for neighbours.

    Before recognise.align_heads `pairs` says which other columns rotate together, `rotated` how many (negative: the last ones), and `gives`
    that results of neighbours stand as halves.
    """
    if {*op.attrs} - {"beside"}:
        raise NotImplementedError(f"{op.module}: a rotary embedding of {dict(op.attrs)} is computed by no reference")
    x, cos, sin = args[0], args[1].unsqueeze(1), args[2].unsqueeze(1)
    if "beside" in op.attrs:
        return x * cos + torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2) * sin
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


@operation(
    "x [B H S D], factors [_ _ _] -> [B H S D]",
    split=lambda graph, op: [Strategy((1, "R"), (1,)), Strategy((0, 0), (0,))],
    keeps_heads=True,
)
def scale_positions(run: Any, op: Op, args: list[Any]) -> Any:
    """Heads times numbers of each position."""
    return args[0] * args[1].unsqueeze(1)


@operation(
    "x [B H S D] -> [B H S D]",
    "slopes: tuple, scaling: float, first: int, digits: tuple, parts: tuple, size: int",
    split=lambda graph, op: [Strategy((1,), (1,)), Strategy((0,), (0,))],  # each chip takes the slopes of its heads
)
def add_slopes(run: Any, op: Op, args: list[Any]) -> Any:
    """Slopes of ALiBi in columns of queries from `first` on (recognise/alibi.py).

    Two parts of 8 bits for each digit of keys, and three of 4 bits for each of queries, in every head; their sum is the slope.
    """
    x, column = args[0].clone(), op.attrs["first"]
    for digits, bits, parts in zip(op.attrs["digits"], (8, 4), (2, 3), strict=True):
        for _ in range(digits):
            left = [slope / op.attrs["scaling"] for slope in op.attrs["slopes"]]
            for _ in range(parts):
                rounded = [_to_bits(s, bits) for s in left]
                x[:, :, :, column] += torch.tensor(rounded)[:, None]
                left = [a - b for a, b in zip(left, rounded, strict=True)]
                column += 1
    return x


def _to_bits(number: float, bits: int) -> float:
    step = 2.0 ** (math.floor(math.log2(abs(number))) + 1 - bits) if number else 1.0
    return round(number / step) * step


@operation("position_ids# [_ S] -> # [S]", kind=MOVEMENT, planned=False)
def own_positions(run: Any, op: Op, args: list[Any]) -> Any:
    """What stands, while a model that knows of no users is captured, for the positions of each user's own tokens."""
    raise NotImplementedError("capture/own_positions.py does away with it")
