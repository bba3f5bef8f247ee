"""Operations that move numbers and change none."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch.nn import functional

from fx2ttnn.emulate.chips import LEAD, common_chips, on_chips, own_dim
from fx2ttnn.emulate.registry import emulates
from fx2ttnn.emulate.tensor import EmulationError


@emulates(
    "ttnn.to_memory_config",
    "ttnn.to_layout",
    "ttnn.typecast",
    "ttnn.experimental.typecast",
    "ttnn.interleaved_to_sharded",
    "ttnn.sharded_to_interleaved",
    "ttnn.reshard",
    moves=True,
)
def same(
    tensor: torch.Tensor | None = None, *where: Any, input_tensor: torch.Tensor | None = None, **how: Any
) -> torch.Tensor:
    """The same numbers elsewhere, or in another layout or data type."""
    found = input_tensor if tensor is None else tensor
    assert found is not None  # ttnn itself has accepted the call
    return found


@emulates("ttnn.tilize", "ttnn.untilize", "ttnn.clone", "ttnn.move", "ttnn.identity", "ttnn.reallocate", moves=True)
def same_one(*tensor: torch.Tensor, **named: torch.Tensor) -> torch.Tensor:
    return next(t for t in (*tensor, *named.values()) if isinstance(t, torch.Tensor))


@emulates("ttnn.assign", moves=True)
def assign(input_tensor: torch.Tensor, output_tensor: torch.Tensor | None = None) -> torch.Tensor:
    if output_tensor is not None:
        raise EmulationError("ttnn.assign into a tensor has no emulation: use ttnn.copy")
    return input_tensor


@emulates(
    "ttnn.reshape",
    "ttnn.view",
    "ttnn.experimental.view",
    "ttnn.unsqueeze_to_4D",
    "ttnn.unsqueeze",
    "ttnn.squeeze",
    moves=True,
)
def reshape(
    input_tensor: torch.Tensor | None = None, *shape: Any, tensor: Any = None, real: Any, **how: Any
) -> torch.Tensor:
    """The real operation says which shape; all keep the order of the numbers. With a padded shape it counts the rows and columns that fill tiles, too."""
    source = tensor if input_tensor is None else input_tensor
    if len(shape) == 2:
        padded = list(shape[1])
        rows = prod(padded[:-1]) // prod(source.shape[LEAD:-2]) - source.shape[-2]
        source = functional.pad(source, (0, padded[-1] - source.shape[-1], 0, rows), value=float("nan"))
        source = source.reshape(*source.shape[:LEAD], *padded)[..., : real.shape[-2], : real.shape[-1]]
    return source.reshape(*source.shape[:LEAD], *real.shape)


@emulates("ttnn.Tensor.__getitem__", composed=True)
def getitem() -> None:
    """Slices and squeezes."""


@emulates("ttnn.slice", moves=True)
def slice_(
    input_tensor: torch.Tensor,
    starts: Any = None,
    ends: Any = None,
    steps: Any = None,
    *,
    slice_start: Any = None,
    slice_end: Any = None,
    slice_step: Any = None,
    slice_dim: int | None = None,
    num_devices: int | None = None,
) -> torch.Tensor:
    if slice_dim is not None and num_devices is not None:  # the device reads where the part begins
        dim = own_dim(input_tensor, slice_dim)
        return input_tensor.narrow(dim, int(starts.flatten()[slice_dim]), input_tensor.shape[dim] // num_devices)
    starts, ends, steps = (_integers(x) for x in (starts or slice_start, ends or slice_end, steps or slice_step))
    steps = steps or [1] * len(starts)
    return input_tensor[
        (slice(None), slice(None), *(slice(*bounds) for bounds in zip(starts, ends, steps, strict=True)))
    ]


def _integers(bounds: Any) -> list[int]:
    if isinstance(bounds, torch.Tensor):
        raise EmulationError("ttnn.slice with bounds in tensors has no emulation: pass lists")
    return list(bounds or [])


@emulates("ttnn.permute", moves=True)
def permute(input_tensor: torch.Tensor, dims: Sequence[int]) -> torch.Tensor:
    return input_tensor.permute(0, 1, *(own_dim(input_tensor, d) for d in dims))


@emulates("ttnn.transpose", moves=True)
def transpose(input_tensor: torch.Tensor, dim1: int, dim2: int) -> torch.Tensor:
    return input_tensor.transpose(own_dim(input_tensor, dim1), own_dim(input_tensor, dim2))


@emulates("ttnn.concat", moves=True)
def concat(tensors: Sequence[torch.Tensor], dim: int = 0) -> torch.Tensor:
    chips = common_chips(*tensors)
    return torch.cat([on_chips(t, chips) for t in tensors], dim=own_dim(tensors[0], dim))


@emulates("ttnn.pad", moves=True)
def pad(input_tensor: torch.Tensor, padding: Sequence[Any], *rest: Any, value: float | None = None) -> torch.Tensor:
    """`padding`: (front, back) of each dim, then the value; or the padded shape, a start of zeros, the value."""
    value = rest[-1] if value is None else value
    if isinstance(padding[0], int):
        padding = [(0, p - n) for p, n in zip(padding, input_tensor.shape[LEAD:], strict=True)]
    return functional.pad(input_tensor, [n for pair in reversed(list(padding)) for n in pair], value=value)


@emulates("ttnn.repeat", moves=True)
def repeat(input_tensor: torch.Tensor, repeat_dims: Sequence[int]) -> torch.Tensor:
    return input_tensor.repeat(1, 1, *repeat_dims)


@emulates("ttnn.repeat_interleave", moves=True)
def repeat_interleave(input_tensor: torch.Tensor, repeats: int, dim: int) -> torch.Tensor:
    return input_tensor.repeat_interleave(repeats, dim=own_dim(input_tensor, dim))


@emulates("ttnn.expand", moves=True)
def expand(input_tensor: torch.Tensor, *shape: Any, real: Any, output_shape: Any = None) -> torch.Tensor:
    return input_tensor.expand(*input_tensor.shape[:LEAD], *real.shape)


@emulates("ttnn.split", moves=True)
def split(input_tensor: torch.Tensor, split_size: int | list[int], dim: int = 0) -> list[torch.Tensor]:
    return list(input_tensor.split(split_size, dim=own_dim(input_tensor, dim)))


@emulates("ttnn.chunk", moves=True)
def chunk(input_tensor: torch.Tensor, chunks: int, dim: int) -> list[torch.Tensor]:
    return list(input_tensor.chunk(chunks, dim=own_dim(input_tensor, dim)))


@emulates("ttnn.gather", moves=True)
def gather(input: torch.Tensor, dim: int, index: torch.Tensor) -> torch.Tensor:
    chips = common_chips(input, index)
    return on_chips(input, chips).gather(own_dim(input, dim), on_chips(index, chips).long())


@emulates("ttnn.scatter", moves=True)
def scatter(input: torch.Tensor, dim: int, index: torch.Tensor, src: torch.Tensor) -> torch.Tensor:
    chips = common_chips(input, index, src)
    base, places, found = (on_chips(t, chips) for t in (input, index, src))
    return base.scatter(own_dim(input, dim), places.long(), found)


@emulates("ttnn.embedding", moves=True)
def embedding(input_tensor: torch.Tensor, weight: torch.Tensor, *, real: Any) -> torch.Tensor:
    """Rows of the table [.., V, H] by the numbers [.., n]; each chip looks up its own numbers in its own table."""
    ids, table = input_tensor.long().flatten(LEAD), weight.flatten(LEAD, -2)
    if ids.shape[:LEAD] == (1, 1):
        rows = table[:, :, ids[0, 0]]
    else:
        chips = common_chips(ids, table)
        ids, table = on_chips(ids, chips), on_chips(table, chips)
        rows = torch.stack(
            [torch.stack([t[i] for t, i in zip(*row, strict=True)]) for row in zip(table, ids, strict=True)]
        )
    return rows.reshape(*rows.shape[:LEAD], *real.shape)
