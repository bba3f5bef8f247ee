"""How a logical value becomes the 4-D tensor that ttnn's transformer ops expect.

decode: [B, S=1, X] -> [1, S, B, X] (users are the rows of a tile); [B, H, S, D] and [B, S, H, D] -> [S, B, H, D].
prefill: [B=1, S, X] -> [1, B, S, X] (tokens are the rows); [B, H, S, D] stays, [B, S, H, D] -> [B, H, S, D].
"""

from __future__ import annotations

from fx2ttnn.ir import Graph, Op, Placement, TensorSpec
from fx2ttnn.ops import TOKENS_SECOND
from fx2ttnn.tiles import TILE


def device_order(spec: TensorSpec, producer: Op | None, mode: str = "decode") -> tuple[int | None, ...]:
    """For each dim of the device tensor the logical dim it comes from, or None for a dim of 1."""
    rank = len(spec.shape)
    tokens_second = producer is not None and producer.name in TOKENS_SECOND
    if mode == "prefill":
        orders = {4: (0, 2, 1, 3) if tokens_second else (0, 1, 2, 3), 3: (None, 0, 1, 2), 2: (None, None, 0, 1)}
    else:
        table = False  # a table lines up with heads [S, B, H, D], unless it is added to tokens
        if producer is not None and producer.name == "position_table":
            table = "of_tokens" not in producer.attrs
        orders = {
            4: (1, 0, 2, 3) if tokens_second else (2, 0, 1, 3),
            3: (None, 0, 1, 2) if table else (None, 1, 0, 2),
            2: (None, None, 1, 0),
        }
    if rank not in orders:
        raise ValueError(f"no device shape for a value of rank {rank}")
    return orders[rank]


def orders(graph: Graph) -> dict[str, tuple[int | None, ...]]:
    """`device_order` of every activation of `graph`; one of another rank keeps its dims, and no rule will take it."""
    producers = graph.producers()
    return {
        v: device_order(s, producers.get(v), graph.name) if 2 <= len(s.shape) <= 4 else tuple(range(len(s.shape)))
        for v, s in graph.specs.items()
        if v not in graph.parameters
    }


def split_count(placement: Placement, dim: int, mesh: tuple[int, ...]) -> int:
    """Number of parts that `dim` is split into."""
    n = 1
    for axis in placement.axes_of(dim):
        n *= mesh[axis]
    return n


def local_shape(spec: TensorSpec, placement: Placement, mesh: tuple[int, ...]) -> tuple[int, ...]:
    """Logical shape of one chip's part."""
    return tuple(-(-size // split_count(placement, dim, mesh)) for dim, size in enumerate(spec.shape))


def device_shape(
    spec: TensorSpec, placement: Placement, mesh: tuple[int, ...], order: tuple[int | None, ...]
) -> tuple[int, ...]:
    """Shape of one chip's part as ttnn sees it."""
    local = local_shape(spec, placement, mesh)
    return tuple(1 if d is None else local[d] for d in order)


def whole_tiles(size: int) -> bool:
    return size % TILE == 0
