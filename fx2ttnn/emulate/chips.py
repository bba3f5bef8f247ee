"""Values over the chips of a mesh: [r, c, *shard shape], where a mesh axis on which all chips agree has size 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from fx2ttnn.emulate.tensor import EmulationError


@dataclass
class Mesh:
    """The mesh that is open: rows and columns of chips."""

    shape: tuple[int, int] = (1, 1)


MESH = Mesh()
LEAD = 2  # mesh dims in front of a shard's own


def common_chips(*values: torch.Tensor | None) -> tuple[int, int]:
    """How many distinct chips all of `values` together have on each mesh axis."""
    shapes = [v.shape[:LEAD] for v in values if v is not None]
    return max(s[0] for s in shapes), max(s[1] for s in shapes)


def on_chips(value: torch.Tensor, chips: tuple[int, int]) -> torch.Tensor:
    """`value` for `chips` distinct chips, without a copy."""
    return value.expand(*chips, *value.shape[LEAD:])


def align(*values: Any) -> list[Any]:
    """Tensors with shards of the same rank, by ones in front, so that torch broadcasts them as ttnn does."""
    rank = max((v.dim() for v in values if isinstance(v, torch.Tensor)), default=LEAD)
    return [
        v.reshape(*v.shape[:LEAD], *[1] * (rank - v.dim()), *v.shape[LEAD:]) if isinstance(v, torch.Tensor) else v
        for v in values
    ]


def own_dim(value: torch.Tensor, dim: int) -> int:
    """The dim of `value` that is dim `dim` of its shard."""
    return dim + LEAD if dim >= 0 else dim + value.dim()


def mesh_axis(cluster_axis: int | None) -> int:
    """The mesh axis of a collective; without one, the only axis that has more than one chip."""
    if cluster_axis is not None:
        return cluster_axis
    rows, cols = MESH.shape
    if rows > 1 and cols > 1:
        raise EmulationError(
            f"a collective without cluster_axis on a {rows}x{cols} mesh has no emulation: pass the axis"
        )
    return 0 if rows > 1 else 1


def whole_axis(value: torch.Tensor, axis: int) -> torch.Tensor:
    """The value with every chip of a mesh axis, without a copy."""
    shape = list(value.shape)
    shape[axis] = MESH.shape[axis]
    return value.expand(shape)
