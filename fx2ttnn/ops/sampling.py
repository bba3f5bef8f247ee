"""The choice of a token for each row of logits, in device shapes: [1, 1, rows, tokens]."""

from __future__ import annotations

from typing import Any

from fx2ttnn.ir import Op
from fx2ttnn.ops.table import MOVEMENT, operation


@operation("logits [_ _ R V] -> [_ _ R V]")
def hide_fill(run: Any, op: Op, args: list[Any]) -> Any:
    """Logits of columns that stand for no token, behind the vocabulary, become so small that none is drawn."""
    return args[0]  # on the whole mesh there are no such columns


@operation("logits [_ _ R V] -> [_ _ R V]", kind=MOVEMENT)
def widen(run: Any, op: Op, args: list[Any]) -> Any:
    """Columns that no token has are added, up to what the choice of candidates takes."""
    return args[0]


@operation("logits [_ _ R V] -> values [_ _ R C], columns [_ _ R C]")
def candidates(run: Any, op: Op, args: list[Any]) -> Any:
    """The largest logits on each chip, and their columns there."""
    return args[0].topk(run.graph.specs[op.outputs[0]].shape[-1])


@operation("columns [_ _ R C], logits [_ _ R V] -> [_ _ R C]")
def token_ids(run: Any, op: Op, args: list[Any]) -> Any:
    """The tokens of a chip's columns; `logits` only say how many columns each chip has."""
    return args[0]


@operation("values [_ _ R C], tokens [_ _ R C] -> [_ _ _ R]")
def sample(run: Any, op: Op, args: list[Any]) -> Any:
    """One of the candidates of each row, by chance as the request asks."""
    raise NotImplementedError("drawn by chance")
