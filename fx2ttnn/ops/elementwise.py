"""What works element by element, or with one number for a column or a head."""

from __future__ import annotations

from typing import Any

import torch

from fx2ttnn.ir import Graph, Op
from fx2ttnn.ops import activations
from fx2ttnn.ops.activations import ACTIVATIONS
from fx2ttnn.ops.table import Strategy, operation, per_element


def _split_alike(graph: Graph, op: Op, operands: int) -> list[Strategy]:
    """Operands of one rank, split alike but for a dim of which one has a single element for all of the other's; behind them numbers."""
    shapes = [graph.specs[v].shape for v in op.inputs[:operands]]
    if len({len(shape) for shape in shapes}) != 1:
        return []
    out = tuple(map(max, zip(*shapes, strict=True)))
    numbers = ("R",) * (len(op.inputs) - operands)
    return [Strategy((*(d if s[d] == out[d] else "R" for s in shapes), *numbers), (d,)) for d in range(len(out))]


def _split_gated(graph: Graph, op: Op) -> list[Strategy]:
    gate, up = (graph.specs[v].shape for v in op.inputs)
    # One gate for all columns that are a sum: it multiplies each summand.
    sums = [Strategy(("R", "P"), ("P",))] if len(gate) == len(up) and gate != up == tuple(map(max, gate, up)) else []
    return [*_split_alike(graph, op, 2), *sums]


def _split_linearly(graph: Graph, op: Op) -> list[Strategy]:
    """A sum of partial sums, or a multiple of one, is a partial sum."""
    split = _split_alike(graph, op, len(op.inputs))
    return [*split, Strategy(("P",) * len(op.inputs), ("P",))] if split else []


@operation(
    "x [...], steep [...]?, bent [...]?, slope [...]?, least [...]? -> [...]",
    "function: str",
    split=lambda graph, op: _split_alike(graph, op, 1),
    pointwise=True,
)
def activation(run: Any, op: Op, args: list[Any]) -> Any:
    """A `function` of each element; some have parameters, one number each."""
    return ACTIVATIONS[op.attrs["function"]](*args)


@operation(
    "gate [...], up [...] -> [...]",
    "activation: str, limit: float?, alpha: float?",
    split=_split_gated,
    flops=per_element(2),  # activation, product
    pointwise=True,
)
def glu(run: Any, op: Op, args: list[Any]) -> Any:
    """activation(gate) times up; `clamped_swiglu` has a `limit` and `alpha`. One gate may be for all columns."""
    return activations.glu(*args, **op.attrs)


@operation(
    "x [...] -> [...]",
    "factor: float",
    split=_split_linearly,
    pointwise=True,
)
def scale(run: Any, op: Op, args: list[Any]) -> Any:
    """x times `factor`."""
    return args[0] * op.attrs["factor"]


@operation(
    "x [...], y [...] -> [...]",
    split=_split_linearly,
    pointwise=True,
)
def add(run: Any, op: Op, args: list[Any]) -> Any:
    """The sum of two values."""
    return args[0] + args[1]


def _split_vector(graph: Graph, op: Op) -> list[Strategy]:
    """A vector of N numbers or of one; a multiple of a partial sum is one."""
    columns = "R" if graph.specs[op.inputs[1]].numel == 1 else 0
    return [
        Strategy((0, "R"), (0,)),
        Strategy((1, "R"), (1,)),
        Strategy((2, columns), (2,)),
        Strategy(("P", "R"), ("P",)),
    ]


@operation("x [... N], vector [...] -> [... N]", split=_split_vector)
def multiply_vector(run: Any, op: Op, args: list[Any]) -> Any:
    """Each column times its number of a weight, or all times one number."""
    return args[0] * args[1].flatten()


def weighed(x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """x [.., G N] in groups of N columns, each times its weight [.., G]."""
    return (x.unflatten(-1, (weights.shape[-1], -1)) * weights.unsqueeze(-1)).flatten(-2)


def split_weighed(graph: Graph, op: Op) -> list[Strategy]:
    """Values with weights behind them: each chip takes the weights of the groups whose columns it holds."""
    values = len(op.outputs)
    return [Strategy((*(dim,) * values, weights), (dim,) * values) for dim, weights in ((2, "R"), (0, 0))]


@operation("x [B S N], gate [B S H] -> [B S N]", "heads: int", split=split_weighed)
def scale_heads(run: Any, op: Op, args: list[Any]) -> Any:
    """The columns of each head times a gate of its own."""
    return weighed(*args)
