"""How a weight of the checkpoint becomes the operand that an op multiplies with: some of its rows, its columns in another order.

`rows`: (start, stop, groups), the rows start to stop of each of so many equal groups. `order` of the columns of a head: (columns, how many
of the first of them rotate (of the last, if negative), which in pairs ("halves", "swapped halves" or "neighbours"), columns with those of
zeros); with BESIDE behind the pairs, what rotates together comes to lie side by side, else half a head apart. Where a weight holds some columns of each head only, they are (start, stop) behind these.
"""

from __future__ import annotations

import torch

Rows = tuple[int, int, int]
Order = tuple  # (head_dim, rotated, pairs, size[, (start, stop)])
BESIDE = ", side by side"


def selected(tensor: torch.Tensor, rows: Rows | None = None, order: Order | None = None) -> torch.Tensor:
    """Of a tensor [N, ...] the rows that an op takes, heads one after the other; columns of zeros are rows of zeros here."""
    if rows is not None:
        start, stop, groups = rows
        size = len(tensor) // groups
        tensor = torch.cat([tensor[group * size :][start:stop] for group in range(groups)])
    if order is not None:
        start, stop = part_of(order)
        before, behind = (
            torch.zeros_like(tensor[:1]).expand(n, *tensor.shape[1:]) for n in (start, order[0] + 1 - stop)
        )
        heads = [torch.cat([before, head, behind]) for head in tensor.split(stop - start)]
        tensor = torch.cat([head[column][None] for head in heads for column in columns(order)])
    return tensor


def columns(order: Order) -> list[int]:
    """The columns of a head so that column i and the one half a head behind it rotate together, or neighbours; column `head_dim` is one of zeros."""
    head_dim, _, pairs, size = order[:4]
    pairs, beside = pairs.removesuffix(BESIDE), pairs.endswith(BESIDE)
    rotated = list(rotating(order))
    rest = [column for column in range(head_dim) if column not in rotated]
    half, middle = len(rotated) // 2, len(rest) // 2
    first, second = (rotated[0::2], rotated[1::2]) if pairs == "neighbours" else (rotated[:half], rotated[half:])
    if pairs == "swapped halves":
        first, second = second, first
    halves = [*first, *rest[:middle]], [*second, *rest[middle:]]
    filled = [[*part, *[head_dim] * (size // 2 - len(part))] for part in halves]
    return [column for pair in (zip(*filled, strict=True) if beside else filled) for column in pair]


def part_of(order: Order) -> tuple[int, int]:
    """First and last but one column of a head of the weight that the order is for."""
    return order[4] if len(order) > 4 else (0, order[0])


def rotating(order: Order) -> range:
    """The columns that rotate."""
    head_dim, rotated = order[:2]
    return range(head_dim)[rotated:] if rotated < 0 else range(rotated)


def of_experts(tensor: torch.Tensor, side: str) -> torch.Tensor:
    """Weights of experts [E, N, K] as one matrix, experts side by side along its "outputs" [E N, K] or "inputs" [N, E K]; biases likewise."""
    one_each = list(tensor)
    return torch.cat(one_each) if side == "outputs" else torch.stack(one_each, dim=1).flatten(1)
