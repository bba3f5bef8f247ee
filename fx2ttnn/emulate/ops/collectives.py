"""Operations between chips along one axis of the mesh.

A sum over chips goes from chip to chip around the ring: each adds its part to what it receives, and stores the partial sum in the
tensor's type. With HOP_BY_HOP that is emulated, chip by chip: the part that chip i keeps began at chip i + 1. Without it, which is
faster, there is one float32 sum.
"""

from __future__ import annotations

import os
from typing import Any

import torch

from fx2ttnn.emulate.chips import MESH, mesh_axis, own_dim, whole_axis
from fx2ttnn.emulate.ops.heads import create_heads_decode
from fx2ttnn.emulate.registry import emulates
from fx2ttnn.emulate.rounding import pack

HOP_BY_HOP = os.environ.get("FX2TTNN_EMULATOR_COLLECTIVES") == "hops"


def _deal(value: torch.Tensor, dim: int, axis: int) -> torch.Tensor:
    """Chip i of the axis keeps part i of dim `dim`; all chips of the axis agree on `value`."""
    return value.squeeze(axis).unflatten(dim - 1, (MESH.shape[axis], -1)).movedim(dim - 1, axis)


def _sums(value: torch.Tensor, dim: int, axis: int, dtype: str) -> torch.Tensor:
    """The sum over the chips of the axis, of which part i of dim `dim` is summed in the order that ends at chip i."""
    chips = whole_axis(value, axis).split(1, dim=axis)
    if not HOP_BY_HOP or value.shape[dim] % len(chips):
        return torch.cat(chips, dim=axis).sum(axis, keepdim=True)
    parts = [chip.chunk(len(chips), dim=dim) for chip in chips]
    done = []
    for end in range(len(chips)):
        hops = [parts[(end + 1 + hop) % len(chips)][end] for hop in range(len(chips))]
        total = hops[0]
        for part in hops[1:]:
            total = pack(total + part, dtype).float()
        done.append(total)
    return torch.cat(done, dim=dim)


@emulates("ttnn.all_reduce")
def all_reduce(input_tensor: torch.Tensor, *, cluster_axis: int | None = None, real: Any) -> torch.Tensor:
    return _sums(input_tensor, input_tensor.dim() - 1, mesh_axis(cluster_axis), real.dtype.name)


@emulates("ttnn.experimental.all_reduce_async")
def all_reduce_async(input_tensor: torch.Tensor, *, cluster_axis: int) -> torch.Tensor:
    """Each chip gets all summands and adds them up: no partial sum is rounded."""
    return whole_axis(input_tensor, cluster_axis).sum(cluster_axis, keepdim=True)


@emulates("ttnn.experimental.all_reduce_create_qkv_heads")
def all_reduce_create_qkv_heads(
    input_tensor: torch.Tensor,
    *,
    batch_offset: torch.Tensor,
    cluster_axis: int,
    num_heads: int,
    num_kv_heads: int | None = None,
    slice_size: int | None = None,
) -> tuple[torch.Tensor, ...]:
    """The sum, and of it the heads of the chip's users."""
    summed = all_reduce_async(input_tensor, cluster_axis=cluster_axis)
    users = {"batch_offset": batch_offset, "slice_size": slice_size}
    return summed, *create_heads_decode(summed, num_heads=num_heads, num_kv_heads=num_kv_heads, **users)


@emulates("ttnn.reduce_scatter", "ttnn.experimental.reduce_scatter_minimal_async")
def reduce_scatter(input_tensor: torch.Tensor, dim: int, *, cluster_axis: int | None = None, real: Any) -> torch.Tensor:
    axis, dim = mesh_axis(cluster_axis), own_dim(input_tensor, dim)
    return _deal(_sums(input_tensor, dim, axis, real.dtype.name), dim, axis)


@emulates("ttnn.all_gather", "ttnn.experimental.all_gather_async", moves=True)
def all_gather(input_tensor: torch.Tensor, dim: int, *, cluster_axis: int | None = None) -> torch.Tensor:
    axis = mesh_axis(cluster_axis)
    return torch.cat(whole_axis(input_tensor, axis).split(1, dim=axis), dim=own_dim(input_tensor, dim))


@emulates("ttnn.mesh_partition", moves=True)
def mesh_partition(input_tensor: torch.Tensor, dim: int, cluster_axis: int | None = None) -> torch.Tensor:
    axis, dim = mesh_axis(cluster_axis), own_dim(input_tensor, dim)
    if input_tensor.shape[axis] == 1:
        return _deal(input_tensor, dim, axis)
    chips = input_tensor.split(1, dim=axis)
    return torch.cat([_deal(chip, dim, axis).narrow(axis, i, 1) for i, chip in enumerate(chips)], dim=axis)


@emulates("ttnn.all_broadcast", moves=True)
def all_broadcast(input_tensor: torch.Tensor, *, cluster_axis: int | None = None) -> list[torch.Tensor]:
    axis = mesh_axis(cluster_axis)
    return list(whole_axis(input_tensor, axis).split(1, dim=axis))
