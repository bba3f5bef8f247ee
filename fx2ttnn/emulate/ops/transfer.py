"""Between torch and the chips, and tensors made on the chips."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from fx2ttnn.emulate.chips import LEAD, MESH, own_dim
from fx2ttnn.emulate.registry import emulates
from fx2ttnn.emulate.rounding import round_to, stored_dtype
from fx2ttnn.emulate.tensor import ChipTensor, EmulatedTensor, EmulationError, Numbers

# From here on the real library only allocates: tilizing and copying to 32 chips that are not there would cost minutes.
BIG = 1 << 20
_SHAPES_DIFFER = "{op}: ttnn says each chip's shard has the shape {real}, the emulation {value}"


@dataclass(frozen=True)
class Composer:
    """A mesh composer and the dims along which it concatenates: one for all chips, or one for each mesh axis."""

    real: Any
    dims: tuple[int, ...]


def plain_functions(ttnn: Any) -> dict[str, Callable[..., Any]]:
    """Replacements for the functions of ttnn that are no registered operations and take or make tensors."""
    device_tensors, composer, concat = (
        ttnn.get_device_tensors,
        ttnn.create_mesh_composer,
        ttnn.concat_mesh_to_tensor_composer,
    )

    def get_device_tensors(tensor: Any) -> list[Any]:
        if not isinstance(tensor, EmulatedTensor):
            return device_tensors(tensor)
        shards = device_tensors(tensor.real)
        if len(shards) == 1:
            return [tensor]
        return [ChipTensor(real, tensor, divmod(i, MESH.shape[1])) for i, real in enumerate(shards)]

    def create_mesh_composer(mesh_device: Any, config: Any) -> Composer:
        dims = re.search(r"dims: \[([^\]]*)\]", str(config))  # the class has no attribute for them
        if dims is None:
            raise EmulationError(f"cannot read the dims of {config}")
        _check_mesh(config)
        return Composer(composer(mesh_device, config), tuple(int(d) for d in dims[1].split(",")))

    return {
        "get_device_tensors": get_device_tensors,
        "create_mesh_composer": create_mesh_composer,
        "concat_mesh_to_tensor_composer": lambda mesh_device, dim: Composer(concat(mesh_device, dim), (dim,)),
        "get_memory_config": lambda tensor: tensor.memory_config(),
    }


def tensor_methods(ttnn: Any) -> dict[str, Callable[..., Any]]:
    """Replacements for the methods of ttnn's own tensors, which lie on the host, that touch the mesh."""
    to, to_torch = ttnn.Tensor.to, ttnn.Tensor.to_torch

    def to_device_or_layout(tensor: Any, target: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(target, ttnn.MeshDevice):
            return ttnn.to_device(tensor, target, *args, **kwargs)
        return to(tensor, target, *args, **kwargs)

    return {
        "to": to_device_or_layout,
        "to_torch": lambda tensor, mesh_composer=None: to_torch(tensor, mesh_composer=_real_composer(mesh_composer)),
    }


@emulates("ttnn.from_torch", full=True, host=True)
def from_torch(
    tensor: Any, dtype: Any = None, *, run_real: Callable[..., Any], device: Any = None, **kwargs: Any
) -> Any:
    """Device tensor of a torch tensor, split over the chips by `mesh_mapper`; without a device, ttnn's own host tensor."""
    if tensor is None or device is None:
        return run_real(tensor, dtype, **kwargs)
    if kwargs.get("col_tilize"):
        raise EmulationError("the argument col_tilize of ttnn.from_torch has no emulation")
    source = tensor if isinstance(tensor, torch.Tensor) else torch.from_numpy(tensor)
    real = _allocate_like(source, dtype, device=device, **kwargs) if source.numel() >= BIG else None
    if real is None:
        real = run_real(tensor, dtype, device=device, **kwargs)
    value = scatter(source.detach(), kwargs.get("mesh_mapper"))
    _check_shape("ttnn.from_torch", real, value)
    if source.numel() >= BIG and not source.any():  # an empty cache: untouched zero pages cost no memory
        return EmulatedTensor(real, Numbers(real, torch.zeros(value.shape, dtype=stored_dtype(real.dtype.name))))
    rounded = round_to(value, real.dtype.name)
    if value.shape[:LEAD] != (1, 1):  # each chip's part in one piece, as products read it
        rounded = rounded.contiguous()
    owned = rounded.untyped_storage().data_ptr() != source.untyped_storage().data_ptr()
    return EmulatedTensor(real, Numbers(real, rounded, owned))


@emulates("ttnn.as_tensor", full=True, host=True)
def as_tensor(
    tensor: Any,
    dtype: Any = None,
    *,
    run_real: Callable[..., Any],
    device: Any = None,
    memory_config: Any = None,
    preprocess: Callable[..., Any] | None = None,
    cache_file_name: Any = None,
    **kwargs: Any,
) -> Any:
    """As from_torch; with a cache file, through ttnn's own host tensor, which is written to or read from that file."""
    import ttnn

    if device is None or memory_config is None:  # on the host, or an error
        return run_real(
            tensor, dtype, device=device, memory_config=memory_config, preprocess=preprocess,
            cache_file_name=cache_file_name, **kwargs,
        )  # fmt: skip
    if cache_file_name is None:
        kwargs.pop("cache_dump_mode", None)
        tensor = preprocess(tensor) if preprocess else tensor
        return ttnn.from_torch(tensor, dtype=dtype, device=device, memory_config=memory_config, **kwargs)
    host = run_real(
        tensor, dtype, memory_config=memory_config, preprocess=preprocess, cache_file_name=cache_file_name, **kwargs
    )
    return ttnn.to_device(host, device, memory_config=memory_config)


@emulates("ttnn.load_tensor", full=True, host=True)
def load_tensor(file_name: Any, *, device: Any = None, run_real: Callable[..., Any]) -> Any:
    import ttnn

    host = run_real(file_name)
    return host if device is None else ttnn.to_device(host, device, memory_config=host.memory_config())


@emulates("ttnn.dump_tensor", full=True, host=True)
def dump_tensor(file_name: Any, tensor: Any, *, run_real: Callable[..., Any], **how: Any) -> None:
    run_real(file_name, tensor.cpu() if isinstance(tensor, EmulatedTensor) else tensor, **how)


@emulates("ttnn.to_torch", full=True, host=True)
def to_torch(
    tensor: Any,
    dtype: Any = None,
    *,
    run_real: Callable[..., Any],
    torch_rank: int | None = None,
    mesh_composer: Any = None,
    **kwargs: Any,
) -> torch.Tensor:
    """One torch tensor of all chips' shards; without a composer there must be one shard only."""
    composer = _real_composer(mesh_composer)
    if not isinstance(tensor, EmulatedTensor):
        return run_real(tensor, dtype, torch_rank=torch_rank, mesh_composer=composer, **kwargs)
    value = tensor.value
    small = value.numel() * math.prod(MESH.shape) < BIG
    real = run_real(tensor, mesh_composer=composer, **kwargs) if small or composer is None else None
    if mesh_composer is not None:
        value = gather(value.expand(*MESH.shape, *value.shape[LEAD:]), mesh_composer.dims)
    value = value[0, 0]
    if real is not None and real.shape != value.shape:
        raise EmulationError(
            _SHAPES_DIFFER.format(op="ttnn.to_torch", real=tuple(real.shape), value=tuple(value.shape))
        )
    value = _as_host(value, tensor.real.dtype.name)
    while torch_rank is not None and value.dim() > torch_rank:
        if value.shape[0] != 1:
            raise RuntimeError("ttnn: Unable to squeeze to desired rank!")
        value = value.squeeze(0)
    return value.to(dtype) if dtype is not None else value.clone()


@emulates("ttnn.to_device", moves=True, host=True)
def to_device(tensor: torch.Tensor, device: Any = None, memory_config: Any = None) -> torch.Tensor:
    return tensor


@emulates("ttnn.from_device", full=True, host=True)
def from_device(tensor: EmulatedTensor, *args: Any, run_real: Callable[..., Any], **kwargs: Any) -> Any:
    """ttnn's own host tensor with each chip's numbers."""
    import ttnn

    empty = run_real(tensor, *args, **kwargs)
    shards = len(ttnn.get_device_tensors(empty))
    value = tensor.value.expand(*MESH.shape, *tensor.value.shape[LEAD:]) if shards > 1 else tensor.value
    chips = [
        ttnn.Tensor(_as_host(chip[0, 0], tensor.real.dtype.name).contiguous(), tensor.real.dtype, layout=empty.layout)
        for chip in _chip_list(value)
    ]
    host = ttnn.from_host_shards(chips, ttnn.MeshShape(*MESH.shape)) if shards > 1 else chips[0]
    host.update_tensor_topology(empty.tensor_topology())
    return host


@emulates("ttnn.copy_host_to_device_tensor", raw=True, moves=True, host=True, inplace=("device_tensor",))
def copy_host_to_device_tensor(host_tensor: Numbers, device_tensor: Numbers) -> torch.Tensor:
    return host_tensor.value


@emulates("ttnn.copy", raw=True, moves=True, inplace=("input_b",))
def copy(input_a: Numbers, input_b: Numbers) -> torch.Tensor:
    """Writes the first tensor into the second, whatever that holds."""
    return input_a.value


@emulates("ttnn.deallocate", raw=True, inplace=("tensor",))
def deallocate(tensor: Numbers, force: bool = True) -> None:
    tensor.release()


@emulates("ttnn.zeros", "ttnn.zeros_like", moves=True, host=True)
def zeros(*shape: Any, real: Any, **how: Any) -> torch.Tensor:
    return torch.zeros((1, 1, *real.shape), dtype=stored_dtype(real.dtype.name))


@emulates("ttnn.ones", "ttnn.ones_like", moves=True, host=True)
def ones(*shape: Any, real: Any, **how: Any) -> torch.Tensor:
    return torch.ones((1, 1, *real.shape), dtype=stored_dtype(real.dtype.name))


@emulates("ttnn.full", "ttnn.full_like", host=True)
def full(
    shape: Any, fill_value: float, dtype: Any = None, layout: Any = None, device: Any = None, *, real: Any
) -> torch.Tensor:
    return torch.full((1, 1, *real.shape), fill_value)


@emulates("ttnn.empty", "ttnn.empty_like", "ttnn.allocate_tensor_on_device", "ttnn.allocate_tensor_on_host", moves=True)
def empty(*shape: Any, real: Any, **how: Any) -> torch.Tensor:
    """Memory that nobody wrote: not a number, so that a read shows."""
    dtype = stored_dtype(real.dtype.name)
    return torch.full((1, 1, *real.shape), float("nan") if dtype.is_floating_point else -(1 << 30), dtype=dtype)


@emulates("ttnn.arange", host=True)
def arange(start: int, end: int | None = None, step: int = 1, device: Any = None) -> torch.Tensor:
    return (torch.arange(start) if end is None else torch.arange(start, end, step))[None, None]


def scatter(tensor: torch.Tensor, mapper: Any) -> torch.Tensor:
    """[r, c, *shard shape]: `tensor` as the mesh mapper splits it, without a copy."""
    if mapper is None:
        return tensor[None, None]
    mapper = mapper.unwrap() if hasattr(mapper, "unwrap") else mapper
    config = mapper.config()
    _check_mesh(config)
    dims = [getattr(placement, "dim", None) for placement in config.placements]
    rows, cols = MESH.shape
    if len(dims) == 1:  # one placement: the chips in row-major order
        if dims[0] is None:
            return tensor[None, None]
        return _split(tensor, dims[0], rows * cols, 0).unflatten(0, (rows, cols))
    by_rows = _split(tensor, dims[0], rows, 0)
    return _split(by_rows, None if dims[1] is None else dims[1] % tensor.dim() + 1, cols, 1)


def gather(value: torch.Tensor, dims: tuple[int, ...]) -> torch.Tensor:
    """[1, 1, *shape]: the shards of all chips [R, C, *shard shape] concatenated along `dims`."""
    if len(dims) == 1:
        return torch.cat(_chip_list(value), dim=own_dim(value, dims[0]))
    for axis, dim in enumerate(dims):
        value = torch.cat(value.split(1, dim=axis), dim=own_dim(value, dim))
    return value


def _split(tensor: torch.Tensor, dim: int | None, parts: int, axis: int) -> torch.Tensor:
    """Dim `dim` cut into `parts`, which become a new dim `axis`; a new dim of one without a `dim`."""
    if dim is None:
        return tensor.unsqueeze(axis)
    dim = dim % tensor.dim()
    if tensor.shape[dim] % parts:
        raise EmulationError(
            f"splitting a dim of {tensor.shape[dim]} over {parts} chips has no emulation: the shards differ"
        )
    return tensor.unflatten(dim, (parts, -1)).movedim(dim, axis)


def _check_mesh(config: Any) -> None:
    found = re.search(r"mesh_shape_override=MeshShape\(\[([^\]]*)\]\)", str(config))
    if found and tuple(int(n) for n in found[1].split(",")) not in (MESH.shape, (math.prod(MESH.shape),)):
        raise EmulationError(f"distributing over [{found[1]}] chips of a {MESH.shape} mesh has no emulation")


def host_numbers(leaf: Any) -> Any:
    """A host tensor of ttnn's own with its numbers [r, c, *shard shape]; anything else as it is."""
    import ttnn

    if not isinstance(leaf, ttnn.Tensor):
        return leaf
    chips = ttnn.get_device_tensors(leaf)
    placements = leaf.tensor_topology().placements()
    shape, steps = (1, 1), (0, 0)
    if len(chips) > 1 and len(placements) == len(MESH.shape):  # an axis without a dim is the same everywhere
        rows, cols = (n if hasattr(p, "dim") else 1 for n, p in zip(MESH.shape, placements, strict=True))
        shape, steps = (rows, cols), (MESH.shape[1], 1)
    elif len(chips) > 1 and hasattr(placements[0], "dim"):
        shape, steps = MESH.shape, (MESH.shape[1], 1)
    shards = [chips[r * steps[0] + c * steps[1]].to_torch() for r in range(shape[0]) for c in range(shape[1])]
    value = torch.stack(shards).to(stored_dtype(leaf.dtype.name)).unflatten(0, shape)  # exact: it was rounded already
    return EmulatedTensor(leaf, Numbers(leaf, value))


def _as_host(value: torch.Tensor, dtype: str) -> torch.Tensor:
    """`value` in the torch type in which ttnn gives out tensors of its type."""
    unsigned = {"UINT32": torch.uint32, "UINT16": torch.uint16, "UINT8": torch.uint8}
    block_float = dtype.startswith("BFLOAT") and dtype != "BFLOAT16"
    return value.to(torch.float32 if block_float else unsigned.get(dtype, value.dtype))


def _real_composer(composer: Any) -> Any:
    return composer.real if isinstance(composer, Composer) else composer


def _chip_list(value: torch.Tensor) -> list[torch.Tensor]:
    return [value[r : r + 1, c : c + 1] for r in range(value.shape[0]) for c in range(value.shape[1])]


def _allocate_like(
    source: torch.Tensor,
    dtype: Any,
    *,
    device: Any = None,
    layout: Any = None,
    memory_config: Any = None,
    mesh_mapper: Any = None,
    **rest: Any,
) -> Any:
    """The device tensor that from_torch would make, allocated only; None where from_torch itself must run."""
    import ttnn

    if device is None or any(rest.get(k) is not None for k in ("spec", "tile", "pad_value")):
        return None
    mapper = mesh_mapper.unwrap() if hasattr(mesh_mapper, "unwrap") else mesh_mapper
    dims = [getattr(p, "dim", None) for p in mapper.config().placements] if mapper is not None else []
    parts = MESH.shape if len(dims) == 2 else (math.prod(MESH.shape),)
    split = [(d % source.dim(), n) for d, n in zip(dims, parts, strict=False) if d is not None]
    if len({d for d, _ in split}) < len(split) or any(source.shape[d] % n for d, n in split):
        return None
    # A tiny tensor of the same kind shows what the library makes of the arguments.
    tiny_shape = [1] * source.dim()
    for d, n in split:
        tiny_shape[d] = n
    tiny = ttnn.from_torch.function(
        torch.zeros(tiny_shape, dtype=source.dtype), dtype=dtype, layout=layout, mesh_mapper=mapper, device=device
    )
    shape = list(source.shape)
    for d, n in split:
        shape[d] //= n
    where = memory_config or ttnn.DRAM_MEMORY_CONFIG
    real = ttnn.allocate_tensor_on_device.function(ttnn.Shape(shape), tiny.dtype, tiny.layout, device, where)
    real.update_tensor_topology(tiny.tensor_topology())
    return real


def _check_shape(op: str, real: Any, value: torch.Tensor) -> None:
    if tuple(real.shape) != tuple(value.shape[LEAD:]):
        raise EmulationError(_SHAPES_DIFFER.format(op=op, real=tuple(real.shape), value=tuple(value.shape[LEAD:])))
