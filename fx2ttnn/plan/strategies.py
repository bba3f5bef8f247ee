"""The ways an operation can run split over one mesh axis.

A strategy says, for one axis, how each input must lie and how each output then lies: `"R"` the same on every chip, `"P"` a
sum over the chips, an int the dim that is split. It is a fact about the operation's maths; what the strategies cost and
which is taken is decided in `search`. Adding an operation means adding a function here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fx2ttnn.ir import Graph, Op

Entry = str | int
R, P = "R", "P"


@dataclass(frozen=True)
class Strategy:
    """Entries of an axis for `op.inputs` and `op.outputs`."""

    inputs: tuple[Entry, ...]
    outputs: tuple[Entry, ...]


_TABLE: dict[str, Callable[[Graph, Op], list[Strategy]]] = {}


def is_elementwise(op: Op) -> bool:
    """Whether each element of the outputs depends on the same element of the inputs only."""
    return _TABLE.get(op.name) in (elementwise, linear_elementwise)


def strategy_for(*names: str) -> Callable:
    def register(function: Callable[[Graph, Op], list[Strategy]]) -> Callable:
        _TABLE.update(dict.fromkeys(names, function))
        return function

    return register


def strategies(graph: Graph, op: Op) -> list[Strategy]:
    """All strategies of `op`; an op that the table does not know runs whole on every chip."""
    everywhere = Strategy((R,) * len(op.inputs), (R,) * len(op.outputs))
    return [everywhere, *_TABLE.get(op.name, lambda graph, op: [])(graph, op)]


@strategy_for("linear")
def linear(graph: Graph, op: Op) -> list[Strategy]:
    """x [B, S, K], weights [N, K], biases [N]."""
    weights = sum(len(graph.specs[v].shape) == 2 for v in op.inputs[1:])
    biases = len(op.inputs) - 1 - weights
    split_n = Strategy((R, *(0,) * weights, *(0,) * biases), (2,))
    # A bias is part of the sum, so it lies on one chip and the others hold zero.
    split_k = Strategy((2, *(1,) * weights, *(P,) * biases), (P,))
    split_users = Strategy((0, *(R,) * (weights + biases)), (0,))
    return [split_n, split_k, split_users]


@strategy_for("rms_norm", "layer_norm")
def norm(graph: Graph, op: Op) -> list[Strategy]:
    """x [B, S, H], or heads [B, H, S, D]: split anywhere but over the normalised dim, or over it with an exchange of statistics."""
    rank = len(graph.specs[op.inputs[0]].shape)
    vectors = len(op.inputs) - 1
    apart = [Strategy((d, *(R,) * vectors), (d,)) for d in range(rank - 1)]
    if rank == 3:
        apart.append(Strategy((2, *(0,) * vectors), (2,)))
    return apart


@strategy_for("multiply_heads")
def multiply_heads(graph: Graph, op: Op) -> list[Strategy]:
    """x [B, H, S, D], a weight [H, D] or one [D] for each head, all of which lie on every chip."""
    weights = len(op.inputs) - 1
    whole = (R,) * weights
    return [
        Strategy((0, *whole), (0,)),
        Strategy((1, *(whole if weights > 1 else (0,))), (1,)),
        Strategy((2, *whole), (2,)),
    ]


@strategy_for("multiply_vector")
def multiply_vector(graph: Graph, op: Op) -> list[Strategy]:
    """x [B, S, N], a vector of N numbers or of one; a multiple of a partial sum is one."""
    columns = R if graph.specs[op.inputs[1]].numel == 1 else 0
    return [Strategy((0, R), (0,)), Strategy((1, R), (1,)), Strategy((2, columns), (2,)), Strategy((P, R), (P,))]


@strategy_for("embedding")
def embedding(graph: Graph, op: Op) -> list[Strategy]:
    """ids [B, S], weight [V, H]."""
    return [Strategy((R, 1), (2,)), Strategy((0, R), (0,))]


@strategy_for("create_qkv_heads")
def create_qkv_heads(graph: Graph, op: Op) -> list[Strategy]:
    """qkv [B, S, N] -> heads [B, H, S, D]. The op can also pick some of the users, so R -> S0 costs nothing."""
    return [Strategy((2,), (1, 1, 1)), Strategy((0,), (0, 0, 0)), Strategy((R,), (0, 0, 0))]


@strategy_for("split_heads")
def split_heads(graph: Graph, op: Op) -> list[Strategy]:
    """[B, S, H * D] -> [B, H, S, D]."""
    return [Strategy((2,), (1,)), Strategy((0,), (0,))]


@strategy_for("concat_heads")
def concat_heads(graph: Graph, op: Op) -> list[Strategy]:
    """[B, S, H, D] -> [B, S, H * D]."""
    return [Strategy((2,), (2,)), Strategy((0,), (0,))]


@strategy_for("rotary")
def rotary(graph: Graph, op: Op) -> list[Strategy]:
    """x [B, H, S, D], cos and sin [B, S, D]."""
    return [Strategy((1, R, R), (1,)), Strategy((0, 0, 0), (0,))]


@strategy_for("scale_positions")
def scale_positions(graph: Graph, op: Op) -> list[Strategy]:
    """x [B, H, S, D], factors [B, S, D]."""
    return [Strategy((1, R), (1,)), Strategy((0, 0), (0,))]


@strategy_for("add_slopes")
def add_slopes(graph: Graph, op: Op) -> list[Strategy]:
    """x [B, H, S, D]: each chip takes the slopes of the heads that it holds."""
    return [Strategy((1,), (1,)), Strategy((0,), (0,))]


@strategy_for("update_cache")
def update_cache(graph: Graph, op: Op) -> list[Strategy]:
    """Keys and values [B, Hkv, 1, D] -> the caches [B, Hkv, L, D]."""
    return [Strategy((1, 1), (1, 1)), Strategy((0, 0), (0, 0))]


@strategy_for("attention")
def attention(graph: Graph, op: Op) -> list[Strategy]:
    """q [B, H, S, D], caches [B, Hkv, L, D] -> [B, S, H, D]."""
    sinks = len(op.inputs) - 3
    return [Strategy((1, 1, 1, *(0,) * sinks), (2,)), Strategy((0, 0, 0, *(R,) * sinks), (0,))]


@strategy_for("last_tile")
def last_tile(graph: Graph, op: Op) -> list[Strategy]:
    """[1, S, H] -> [1, 32, H]."""
    return [Strategy((2,), (2,))]


@strategy_for("position_table")
def position_table(graph: Graph, op: Op) -> list[Strategy]:
    return [Strategy((0,), (0,))]


@strategy_for("router")
def router(graph: Graph, op: Op) -> list[Strategy]:
    """x [B, S, H], weight [E, H], bias [E] -> [B, S, E], of which the best are wanted: no sum, and no part of the experts."""
    return [Strategy((0, *(R,) * (len(op.inputs) - 1)), (0,))]


@strategy_for(
    "topk",
    "softmax",
    "normalise",
    "gather",
    "add_vector",
    "keep_groups",
    "keep_near",
    "leave_out",
    "multiply_chosen",
    "concat",
    "spread",
)
def of_a_token(graph: Graph, op: Op) -> list[Strategy]:
    """[B, S, ..], and vectors for the last dim: all numbers of a token are wanted together."""
    inputs = tuple(R if value in graph.parameters else 0 for value in op.inputs)
    return [Strategy(inputs, (0,) * len(op.outputs))]


@strategy_for("weigh", "weigh_heads")
def weigh(graph: Graph, op: Op) -> list[Strategy]:
    """x [B, S, E I], weights [B, S, E]: each chip takes the weights of the experts, or heads, whose columns it holds."""
    return [Strategy((2, R), (2,)), Strategy((0, 0), (0,))]


@strategy_for("weigh_both")
def weigh_both(graph: Graph, op: Op) -> list[Strategy]:
    """Two values [B, S, E I], weights [B, S, E]: as above."""
    return [Strategy((2, 2, R), (2, 2)), Strategy((0, 0, 0), (0, 0))]


@strategy_for("gated", "activation")
def elementwise(graph: Graph, op: Op) -> list[Strategy]:
    """Operands of one rank: split alike, but for a dim of which one has a single element for all of the other's.

    Behind the one operand of an activation come its parameters, one number each.
    """
    numbers = op.name == "activation" and len(op.inputs) - 1
    shapes = [graph.specs[v].shape for v in op.inputs[: len(op.inputs) - numbers]]
    if len({len(shape) for shape in shapes}) != 1:
        return []
    out = tuple(map(max, zip(*shapes, strict=True)))
    split = [Strategy((*(d if s[d] == out[d] else R for s in shapes), *(R,) * numbers), (d,)) for d in range(len(out))]
    # One gate for all columns that are a sum: it multiplies each summand.
    sums = [Strategy((R, P), (P,))] if op.name == "gated" and shapes[0] != shapes[1] == out else []
    return [*split, *sums]


@strategy_for("add", "scale")
def linear_elementwise(graph: Graph, op: Op) -> list[Strategy]:
    """As above; a sum of partial sums, or a multiple of one, is a partial sum."""
    split = elementwise(graph, op)
    return [*split, Strategy((P,) * len(op.inputs), (P,))] if split else []
