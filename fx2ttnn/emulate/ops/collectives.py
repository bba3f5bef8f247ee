"""Operations between chips along one axis of the mesh."""

from __future__ import annotations

import torch

from fx2ttnn.emulate.chips import MESH, mesh_axis, own_dim
from fx2ttnn.emulate.registry import emulates


def _all(value: torch.Tensor, axis: int) -> torch.Tensor:
    """The value with every chip of a mesh axis, without a copy."""
    shape = list(value.shape)
    shape[axis] = MESH.shape[axis]
    return value.expand(shape)


def _deal(value: torch.Tensor, dim: int, axis: int) -> torch.Tensor:
    """Chip i of the axis keeps part i of dim `dim`; all chips of the axis agree on `value`."""
    return value.squeeze(axis).unflatten(dim - 1, (MESH.shape[axis], -1)).movedim(dim - 1, axis)


@emulates("ttnn.all_reduce")
def all_reduce(input_tensor: torch.Tensor, *, cluster_axis: int | None = None) -> torch.Tensor:
    axis = mesh_axis(cluster_axis)
    return _all(input_tensor, axis).sum(axis, keepdim=True)


@emulates("ttnn.reduce_scatter", "ttnn.experimental.reduce_scatter_minimal_async")
def reduce_scatter(input_tensor: torch.Tensor, dim: int, *, cluster_axis: int | None = None) -> torch.Tensor:
    axis = mesh_axis(cluster_axis)
    return _deal(_all(input_tensor, axis).sum(axis, keepdim=True), own_dim(input_tensor, dim), axis)


@emulates("ttnn.all_gather", "ttnn.experimental.all_gather_async", moves=True)
def all_gather(input_tensor: torch.Tensor, dim: int, *, cluster_axis: int | None = None) -> torch.Tensor:
    axis = mesh_axis(cluster_axis)
    return torch.cat(_all(input_tensor, axis).split(1, dim=axis), dim=own_dim(input_tensor, dim))


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
    return list(_all(input_tensor, axis).split(1, dim=axis))
