"""Runs one ttnn call on the mesh with random inputs and compares every chip's result with a torch reference.

A value is held as [rows of the mesh, columns of the mesh, *shape on a chip].
"""

import math
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
import ttnn

from ... import model_config as cfg
from ...mesh import from_mesh, to_mesh
from ...prefetcher import Prefetcher
from ...resources import Resources, Turns
from ..pcc import assert_pcc

# How a call is run, not what it computes.
PLACEMENT = {
    "memory_config",
    "program_config",
    "compute_kernel_config",
    "topology",
    "num_links",
    "dtype",
    "layout",
    "sub_core_grids",
    "final_memory_config",
    "subdevice_id",
    "sub_device_id",
    "overlap_qk_coregrid",
}
CHIPS = cfg.MESH_SHAPE


@dataclass(frozen=True)
class Input:
    """A tensor argument: shape on a chip, and for each mesh axis whether chips along it hold different numbers."""

    shape: tuple
    dtype: object
    layout: object
    memory_config: object
    differs: tuple
    values: str = "normal"
    high: int = 0


@dataclass(frozen=True)
class Resource:
    """What the package's Resources make: the operation gets one, the reference knows nothing of it."""

    kind: str
    args: tuple = ()


@dataclass(frozen=True)
class Case:
    """A call. `written` are the arguments that it changes in place, by place or name; `returns`: it has results beside these."""

    name: str
    args: list
    kwargs: dict
    pcc: float
    written: tuple = ()
    returns: bool = True
    used: list = field(default_factory=list)


def check(mesh_device, operation, reference, case):
    """Run the case and compare; the reference sees the inputs as the chips hold them, after rounding to their types."""
    torch.manual_seed(len(case.name))
    device, host = zip(*[_materialise(mesh_device, a) for a in case.args])
    device_kwargs, host_kwargs = {}, {}
    for name, value in case.kwargs.items():
        device_kwargs[name], made = _materialise(mesh_device, value)
        if name not in PLACEMENT and not isinstance(value, Resource):
            host_kwargs[name] = made
    expected = reference(*host, **host_kwargs)
    with _beside_prefetcher(mesh_device, case, device, device_kwargs):
        if "global_cb" in device_kwargs:
            device_kwargs["global_cb"] = device_kwargs["global_cb"].get()
        found = operation(*device, **device_kwargs)
    found = list(found) if isinstance(found, (tuple, list)) else [found]
    written = [device_kwargs[at] if isinstance(at, str) else device[at] for at in case.written]
    found = [*found, *written] if case.returns else written
    expected = list(expected) if isinstance(expected, (tuple, list)) else [expected]
    assert len(found) == len(expected)
    for result, wanted in zip(found, expected):
        got = _read(mesh_device, result)
        wanted = wanted.expand(*CHIPS, *wanted.shape[2:])
        defined = ~torch.isnan(wanted)
        assert got.shape == wanted.shape, f"{tuple(got.shape)} on the mesh, {tuple(wanted.shape)} expected"
        assert_pcc(torch.where(defined, got, 0), torch.where(defined, wanted, 0), case.pcc)


def _beside_prefetcher(mesh_device, case, device, kwargs):
    """What an operation needs that runs on a sub-device: the prefetcher loaded, and where it reads a prefetched weight, that on its way."""
    if not {"subdevice_id", "sub_device_id"} & case.kwargs.keys():
        return nullcontext()
    return Prefetcher(mesh_device, kwargs.get("global_cb"), [[device[1]]] if "global_cb" in kwargs else []).running()


def _materialise(mesh_device, value):
    """(what the operation gets, what the reference gets: the numbers after rounding to the tensor's type)"""
    if isinstance(value, list) and value:
        return tuple(map(list, zip(*(_materialise(mesh_device, item) for item in value))))
    if isinstance(value, Resource):
        made = mesh_device if value.kind == "mesh_device" else getattr(Resources(mesh_device), value.kind)(*value.args)
        return made.next() if isinstance(made, Turns) else made, None
    if not isinstance(value, Input):
        return value, value
    count = tuple(n if differs else 1 for n, differs in zip(CHIPS, value.differs))
    tensor = _VALUES[value.values](value, count)
    placed = _write(mesh_device, tensor, value)
    if value.dtype in (ttnn.bfloat8_b, ttnn.bfloat4_b):
        rounded = ttnn.from_torch(tensor.flatten(0, 2), dtype=value.dtype, layout=value.layout)
        tensor = ttnn.to_torch(rounded).reshape(tensor.shape)
    return placed, tensor


def _write(mesh_device, tensor, value):
    """[r, c, *shape] -> the mesh: the chips' parts side by side along the first two dims, split over rows and columns."""
    rank = len(value.shape)
    if rank == 1:
        flat = tensor.reshape(-1)
        dims = [0 if differs else None for differs in value.differs]
    else:
        r, c, first, second, *rest = tensor.shape
        flat = tensor.transpose(1, 2).reshape(r * first, c * second, *rest)
        dims = [0 if value.differs[0] else None, 1 if value.differs[1] else None]
    return to_mesh(mesh_device, flat, tuple(dims), value.dtype, value.layout, value.memory_config)


def _read(mesh_device, tensor):
    """The mesh -> [rows, columns, *shape of a chip], float32."""
    shape = tuple(tensor.shape)
    whole = from_mesh(mesh_device, tensor, (0, 1)).float()
    return whole.reshape(CHIPS[0], shape[0], CHIPS[1], shape[1], *shape[2:]).transpose(1, 2)


def _normal(value, count):
    return torch.randn(*count, *value.shape, dtype=torch.bfloat16)


def _small_rows(value, count):
    """Every other row so small that the epsilon of a norm counts."""
    numbers = _normal(value, count)
    numbers[..., ::2, :] *= 1e-3
    return numbers


def _ids(value, count):
    return torch.randint(0, value.high, (*count, *value.shape), dtype=torch.int32)


def _page_table(value, count):
    """Every page of the cache once, in random order; the rows of idle users name page 0."""
    rows, pages = value.shape
    tables = torch.zeros(count[0] * count[1], rows, pages, dtype=torch.int32)
    for table in tables:
        used = min(rows, value.high // pages)
        table[:used] = torch.randperm(value.high, dtype=torch.int32)[: used * pages].reshape(-1, pages)
    return tables.reshape(*count, rows, pages)


def _current_pos(value, count):
    """A position for each user that has pages, -1 for the others."""
    positions = torch.randint(0, cfg.MAX_SEQ_LEN, (*count, *value.shape), dtype=torch.int32)
    positions[..., value.high // cfg.PAGES_PER_USER :] = -1
    return positions


def _chunk_start(value, count):
    """The last start of a chunk that leaves room for it; where chips have starts of their own, earlier ones for the others."""
    chips = math.prod(count)
    starts = [value.high * (n + 1) // chips // 256 * 256 for n in range(chips - 1)]
    return torch.tensor([*starts, value.high], dtype=torch.int32).reshape(*count, *value.shape)


def _last_tile_start(value, count):
    """Corner of the tile of rows before the last."""
    corner = torch.tensor([0, 0, max(0, value.high - 64), 0], dtype=torch.int32)
    return corner.expand(*count, *value.shape)


def _last_tile_end(value, count):
    """Its opposite corner, with a last dim that is not read."""
    return _last_tile_start(value, count) + torch.tensor([1, 1, 32, 1], dtype=torch.int32)


def _first_user(value, count):
    groups = count[0] * count[1]
    return torch.arange(0, cfg.BATCH, cfg.BATCH // groups, dtype=torch.int32).reshape(*count, *value.shape)


def _stats(value, count):
    """Sums of squares in the first column of each chip's tile."""
    stats = torch.zeros(*count, *value.shape)
    stats[..., ::32] = 1000 * (1 + torch.rand(*count, *value.shape[:-1], value.shape[-1] // 32))
    return stats


def _moments(value, count):
    """Of each chip 64 columns: the sum of squares in the first, the sum in the first of the second tile."""
    moments = torch.zeros(*count, *value.shape)
    moments[..., ::64] = 1000 * (1 + torch.rand(*count, *value.shape[:-1], value.shape[-1] // 64))
    moments[..., 32::64] = 10 * torch.randn(*count, *value.shape[:-1], value.shape[-1] // 64)
    return moments


def _flags(value, count):
    return torch.randint(0, 2, (*count, *value.shape)).float()


def _around(value, count):
    """Whole numbers on both sides of `high`."""
    return torch.randint(-2 * value.high, 2 * value.high + 1, (*count, *value.shape)).float()


def _ones(value, count):
    return torch.ones(*count, *value.shape, dtype=torch.int32 if value.dtype == ttnn.uint32 else torch.bfloat16)


def _distinct_at_the_top(value, count):
    """Small numbers, and in 32 random columns of each row others, of which no two are equal."""
    numbers = _normal(value, count).clamp(max=3)
    columns = torch.rand(numbers.shape).argsort(-1)[..., :32]
    return numbers.scatter(-1, columns, (4 + torch.arange(columns.shape[-1]) / 32).bfloat16().expand(columns.shape))


def _distinct_columns(value, count):
    """In each row different numbers below `high`."""
    return torch.rand(*count, *value.shape[:-1], value.high).argsort(-1)[..., : value.shape[-1]].to(torch.int32)


_VALUES = {
    "normal": _normal,
    "small_rows": _small_rows,
    "ids": _ids,
    "page_table": _page_table,
    "current_pos": _current_pos,
    "first_user": _first_user,
    "chunk_start": _chunk_start,
    "last_tile_start": _last_tile_start,
    "last_tile_end": _last_tile_end,
    "stats": _stats,
    "moments": _moments,
    "flags": _flags,
    "around": _around,
    "ones": _ones,
    "distinct_at_the_top": _distinct_at_the_top,
    "distinct_columns": _distinct_columns,
}
