"""The graph that draws every user's next token from the logits. It is no part of the model, but lowered by the same tables."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from fx2ttnn.graph.verify import verify
from fx2ttnn.ir import Graph, Op, Placement, Ref, TensorSpec
from fx2ttnn.lower import lower
from fx2ttnn.lower.values import Lowered, Tensor
from fx2ttnn.lower.vocabulary import power_of_two
from fx2ttnn.plan import Plan

MODE = "sample"
MODULE = "sampler"
CANDIDATES = 32  # tokens of each chip that ttnn.sampling may choose from: the largest k that it takes
COLUMNS = 3  # the device dim of the logits that holds the vocabulary


def lower_sampling(plan: Plan, decode: Lowered, vocabulary: int | None = None) -> Lowered:
    """The ttnn graph from the logits of a decode step, where it leaves them, to a token for every row.

    `vocabulary`: how many tokens there are, if less than columns on all chips: the last ones are fill, never to be drawn.
    """
    logits = decode.tensors[decode.outputs[0]]
    return lower(_plan(plan, logits, vocabulary), given={"logits": replace(logits, name="logits")})


def _plan(decode: Plan, logits: Tensor, vocabulary: int | None) -> Plan:
    """Candidates of each chip, gathered over the axes that split the vocabulary, and the choice among them."""
    mesh = decode.target.mesh_shape
    axes = logits.axes_of(COLUMNS)
    chips, parts = prod(mesh[axis] for axis in axes), -(-logits.width // decode.target.limits.topk_columns)
    width = CANDIDATES * power_of_two(parts) * chips  # ttnn.sampling takes a power of two of tiles
    rows = tuple(COLUMNS if a == COLUMNS - 1 else "R" for a in logits.axes)  # of the tokens, where the users are split
    shapes = {"logits": (1, 1, logits.rows, logits.width * chips), "next_tokens": (1, 1, 1, logits.rows)}
    placements = {"logits": Placement(logits.axes), "next_tokens": Placement(rows)}
    filled = vocabulary is not None and vocabulary < shapes["logits"][COLUMNS]
    ops = [_op("hide_fill", ("logits",), ("hidden_logits",))] if filled else []
    shapes["hidden_logits"], placements["hidden_logits"] = shapes["logits"], placements["logits"]
    ops.append(_op("widen", ("hidden_logits" if filled else "logits",), ("wide_logits",)))
    ops.append(_op("candidates", ("wide_logits",), ("values", "columns")))
    ops.append(_op("token_ids", ("columns", "logits"), ("tokens",)))
    shapes["wide_logits"], placements["wide_logits"] = shapes["logits"], placements["logits"]
    last = {"values": "values", "tokens": "tokens"}
    shapes |= dict.fromkeys(("columns", *last), (1, 1, logits.rows, width))
    placements |= dict.fromkeys(("columns", *last), Placement(logits.axes))
    for axis in reversed(axes):
        for value, name in last.items():
            gathered = f"{value}_of_axis_{axis}"
            ops.append(_op("all_gather", (name,), (gathered,), axis=axis, dim=COLUMNS))
            shapes[gathered], placements[gathered] = shapes[value], placements[name].on(axis, "R")
            last[value] = gathered
    ops.append(_op("sample", tuple(last.values()), ("next_tokens",)))
    specs = {value: TensorSpec(shape, "bfloat16") for value, shape in shapes.items()}
    graph = verify(Graph(MODE, ("logits",), ("next_tokens",), tuple(ops), specs), "sampling")
    orders = dict.fromkeys(shapes, (0, 1, 2, 3))
    return replace(decode, mode=MODE, graph=graph, placements=placements, orders=orders, seconds={}, origins={})


def _op(name: str, args: tuple[str, ...], outputs: tuple[str, ...], **attrs: int) -> Op:
    return Op(name, tuple(map(Ref, args)), outputs, attrs, MODULE, ())
