"""Attention and its cache."""

from __future__ import annotations

from math import prod
from typing import Any

import torch

from fx2ttnn.ir import Graph, Op
from fx2ttnn.ops.table import ATTENTION, MOVEMENT, Sizes, Strategy, operation


@operation(
    "key [B G S D], value [B G S V] -> [B G L D], [B G L V]",
    "layer: int, orders: tuple?, expanded_from: tuple?, repeated: int?, positions: str?",
    kind=MOVEMENT,
    split=lambda graph, op: [Strategy((1, 1), (1, 1)), Strategy((0, 0), (0, 0))],
    keeps_heads=True,
)
def update_cache(run: Any, op: Op, args: list[Any]) -> Any:
    """Writes keys and values at each user's positions; gives the layer's whole caches.

    What lies in them otherwise than the model has it: `orders` of the columns of keys and values, `repeated` heads once, heads that the model
    had `expanded_from` others, ALiBi's `positions`, a table, among the keys' columns.
    """
    layer = op.attrs["layer"] if run.acting is None else run.acting[1]
    if layer not in run.cache:
        run.cache[layer] = tuple(torch.zeros(run.graph.specs[output].shape) for output in op.outputs)
    positions = run.inputs["position_ids"]
    users = torch.arange(len(positions))[:, None]
    for store, new in zip(run.cache[layer], args, strict=True):
        store[users, :, positions] = new.transpose(1, 2)
    return run.cache[layer]


def _split(graph: Graph, op: Op) -> list[Strategy]:
    sinks = len(op.inputs) - 3
    everywhere = ("R",) * sinks
    heads, users = Strategy((1, 1, 1, *(0,) * sinks), (2,)), Strategy((0, 0, 0, *everywhere), (0,))
    # Some of the tokens of a chunk, each of which needs all of the cache. ttnn's attention does so, that with a cap is spelled out for whole chunks.
    tokens = [Strategy((2, "R", "R", *everywhere), (1,))] if op.attrs.get("softcap") is None else []
    return [heads, users, *tokens]


def _flops(sizes: Sizes, op: Op) -> int:
    """Query x key and probabilities x value; the softmax is left out, as is usual (PaLM, arXiv:2204.02311, appendix B)."""
    key_dim, value_dim = (sizes.shape(value)[-1] for value in op.inputs[1:3])
    rows, *heads_and_tokens, _ = sizes.shape(op.inputs[0])
    return 2 * sizes.used(rows) * prod(heads_and_tokens) * sizes.context(op) * (key_dim + value_dim)


@operation(
    "query [B H S D], key_cache [B G L D], value_cache [B G L V], sinks [H]? -> [B S H V]",
    "scaling: float, sliding_window: int?, softcap: float?",
    earlier="slopes: tuple",
    kind=ATTENTION,
    split=_split,
    flops=_flops,
    tokens_second=True,
)
def attention(run: Any, op: Op, args: list[Any]) -> Any:
    """Each token over the positions of the caches up to its own, or the last `sliding_window` of them; groups of heads share one of the caches'.

    `softcap` bounds scores; a head's sink is a score more, of no value. `slopes`: of each head, by how much a score grows with a key's position.
    """
    q, k, v, *sinks = args
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    scores = q @ k.transpose(-1, -2) * op.attrs["scaling"]
    if (cap := op.attrs.get("softcap")) is not None:
        scores = cap * torch.tanh(scores / cap)
    key, query = torch.arange(k.shape[2]), run.inputs["position_ids"][:, None, :, None]
    if slopes := op.attrs.get("slopes"):
        scores = scores + torch.tensor(slopes).view(-1, 1, 1) * (key - query)
    seen = key <= query
    if (window := op.attrs.get("sliding_window")) is not None:
        seen = seen & (key > query - window)
    scores = scores.masked_fill(~seen, -torch.inf)
    if sinks:
        sink = sinks[0].view(1, -1, 1, 1).expand(*scores.shape[:3], 1)
        scores = torch.cat([scores, sink], dim=-1)
    weights = scores.softmax(dim=-1)[..., : k.shape[2]]
    return (weights @ v).transpose(1, 2)


@operation(
    "query [B H S D], key_cache [B G L D], value_cache [B G L V], sinks [H]? -> [B S H V]",
    "scaling: float, sliding_window: int?, softcap: float?, slopes: tuple, why: str",
    kind=ATTENTION,
    tokens_second=True,
    planned=False,
)
def alibi_attention(run: Any, op: Op, args: list[Any]) -> Any:
    """An attention with slopes whose heads have no room for positions."""
    return attention(run, op, args)
