"""Tensors on the mock mesh without their numbers.

On a mock no number is ever read, so a tensor need not be converted and copied to chips that are not there: it is
allocated with the spec that `ttnn.from_torch` would give it. Checkpoint tensors are torch tensors on `meta`, which have a
shape and no memory; the package's own reshaping of them costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import ttnn

BIG = 1 << 20  # elements from which tensors with numbers are only allocated, too
_PLAIN = {"dtype", "layout", "device", "memory_config", "mesh_mapper"}

_real_from_torch = ttnn.from_torch
_real_zeros = ttnn.zeros
_kinds: dict[Any, Any] = {}


def install() -> None:
    """Put the allocating functions in the place of ttnn's, for this process."""
    ttnn.from_torch = from_torch
    ttnn.zeros = zeros


def from_torch(tensor: torch.Tensor, dtype: Any = None, **kwargs: Any) -> Any:
    """As ttnn.from_torch; of a tensor on meta, or a big one, only the device memory is made."""
    if tensor.device.type != "meta" and tensor.numel() < BIG:
        return _real_from_torch(tensor, dtype, **kwargs)
    made = _allocate_like(tensor, dtype, **kwargs)
    if made is not None:
        return made
    values = torch.zeros(tensor.shape, dtype=tensor.dtype) if tensor.device.type == "meta" else tensor
    return _real_from_torch(values, dtype, **kwargs)


def zeros(shape: Any, *args: Any, **kwargs: Any) -> Any:
    """As ttnn.zeros; of a big tensor only the device memory is made."""
    make: Callable[..., Any] = (
        ttnn.empty if not args and math.prod(shape) >= BIG and kwargs.get("device") else _real_zeros
    )
    return make(shape, *args, **kwargs)


def _allocate_like(tensor: torch.Tensor, dtype: Any, **kwargs: Any) -> Any:
    """A device tensor with the spec that from_torch gives; None where only from_torch itself can tell."""
    device = kwargs.get("device")
    if device is None or not set(kwargs) <= _PLAIN:
        return None
    splits = _splits(tensor, device, kwargs.get("mesh_mapper"))
    if splits is None:
        return None
    tiny_shape, shape = [1] * tensor.dim(), list(tensor.shape)
    for dim, parts in splits:
        tiny_shape[dim] = parts
        shape[dim] //= parts
    # A tiny tensor of the same kind shows what the library makes of the arguments.
    key = (
        tensor.dtype,
        str(dtype),
        str(kwargs.get("layout")),
        tuple(tiny_shape),
        tuple(splits),
        _dims(kwargs.get("mesh_mapper")),
    )
    if key not in _kinds:
        how = {name: value for name, value in kwargs.items() if name != "memory_config"}
        tiny = _real_from_torch(torch.zeros(tiny_shape, dtype=tensor.dtype), dtype, **how)
        _kinds[key] = (tiny.dtype, tiny.layout, tiny.tensor_topology())
    true_dtype, layout, topology = _kinds[key]
    memory_config = kwargs.get("memory_config") or ttnn.DRAM_MEMORY_CONFIG
    made = ttnn.allocate_tensor_on_device(ttnn.Shape(shape), true_dtype, layout, device, memory_config)
    made.update_tensor_topology(topology)
    return made


def _splits(tensor: torch.Tensor, device: Any, mapper: Any) -> list[tuple[int, int]] | None:
    """(dim, number of parts) for each mesh axis that splits a dim; None where the parts would differ."""
    dims = _dims(mapper)
    mesh = tuple(device.shape)
    parts = mesh if len(dims) == len(mesh) else (math.prod(mesh),)
    splits = [(dim % tensor.dim(), n) for dim, n in zip(dims, parts, strict=False) if dim is not None]
    twice = len({dim for dim, _ in splits}) < len(splits)
    return None if twice or any(tensor.shape[dim] % n for dim, n in splits) else splits


def _dims(mapper: Any) -> tuple[int | None, ...]:
    """For each placement of a mesh mapper the dim that it splits, None for a replica."""
    if mapper is None:
        return ()
    mapper = mapper.unwrap() if hasattr(mapper, "unwrap") else mapper
    return tuple(getattr(placement, "dim", None) for placement in mapper.config().placements)
