"""From a checkpoint to tensors on the mesh."""

import math
from copy import copy

import torch
import ttnn
from tqdm import tqdm

from . import model_config as cfg
from . import position_tables
from .checkpoint import (
    Checkpoint,
    CheckpointError,
    GgufCheckpoint,
    check_tensors,
    expected_tensors,
    open_checkpoint,
    read_tensor,
)
from .mesh import to_mesh
from .resources import Resources
from .weight_cache import CacheError, WeightCache, to_host

__all__ = [
    "CacheError",
    "Checkpoint",
    "CheckpointError",
    "WeightCache",
    "Weights",
    "check_tensors",
    "open_checkpoint",
    "open_weights",
]


def open_weights(mesh_device, path, cache=None, progress=None):
    """The weights at `path` (see `open_checkpoint`), checked against what the model needs.

    `cache`: folder where converted tensors are kept for later starts. `progress`: whether to show a bar; None: on a terminal.
    """
    state = open_checkpoint(path)
    if not isinstance(state, GgufCheckpoint):  # that one is checked when it is read, which costs more than the rest
        check_tensors(state)
    return Weights(mesh_device, state, cache=None if cache is None else WeightCache(cache, state), progress=progress)


def selected(tensor, rows=None, order=None):
    """Some rows of a tensor, heads in another order.

    `rows`, (start, stop, groups): these of each of `groups` equal groups. `order`: arguments of `column_order`, for each head; its
    column behind the last is zero. With (start, stop) behind these the tensor holds these columns of a head, and the others are zero.
    """
    if rows is not None:
        start, stop, groups = rows
        tensor = tensor.unflatten(0, (groups, -1))[:, start:stop].flatten(0, 1)
    if order is not None:
        start, stop = order[4] if len(order) > 4 else (0, order[0])
        heads = tensor.unflatten(0, (-1, stop - start))
        before, behind = (heads.new_zeros(len(heads), n, *heads.shape[2:]) for n in (start, order[0] + 1 - stop))
        tensor = torch.cat([before, heads, behind], 1)[:, column_order(*order[:4])].flatten(0, 1)
    return tensor


def column_order(head_dim, rotated, pairs, size):
    """Columns of a head so that those which rotate together, `pairs` of halves, swapped halves or neighbours, lie half a head apart, or side by side.

    The first `rotated` columns rotate, or if that is negative so many of the last. Each half is filled up to half of `size` with column `head_dim`, the one behind the last.
    """
    parts = torch.arange(head_dim).tensor_split([rotated])
    turning, rest = parts if rotated > 0 else parts[::-1]
    turning = (turning[0::2], turning[1::2]) if pairs.startswith("neighbours") else turning.tensor_split(2)
    turning = turning[::-1] if pairs.startswith("swapped halves") else turning
    halves = [torch.cat(half) for half in zip(turning, rest.tensor_split(2))]
    halves = [torch.nn.functional.pad(half, (0, size // 2 - len(half)), value=head_dim) for half in halves]
    return torch.stack(halves, 1).flatten() if pairs.endswith("side by side") else torch.cat(halves)


def as_matrix(tensor, side):
    """Weights [E, N, K] of experts as one matrix for all of them.

    `side`: "outputs" [E N, K], the experts' outputs side by side, or "inputs" [N, E K], which sums over experts. Biases [E, N] likewise.
    """
    return tensor.flatten(0, 1) if side == "outputs" else tensor.transpose(0, 1).flatten(1)


class Weights:
    """Tensors of a checkpoint, placed on the mesh. Names are relative to `prefix`; `root` sees the whole checkpoint.

    Each is read, converted and placed when a module asks for it, and then dropped: beyond the mapped files, the host holds
    one tensor in its final type, one chip's part of it and, where several are joined, these.
    """

    def __init__(self, mesh_device, state, prefix="", cache=None, progress=False):
        self.mesh_device, self.state, self.prefix, self.cache = mesh_device, state, prefix, cache
        self.constants = {}  # what no checkpoint holds and all layers share, by what it is
        hidden = None if progress is None else not progress
        self.resources = Resources(mesh_device)
        self.bar = tqdm(total=len(expected_tensors()), desc="weights", unit="tensor", disable=hidden)

    @property
    def root(self):
        """The same checkpoint, with full names."""
        return self._seen_from("")

    def at(self, path):
        """The same checkpoint, seen from a submodule."""
        return self._seen_from(f"{self.prefix}{path}.")

    def _seen_from(self, prefix):
        weights = copy(self)
        weights.prefix = prefix
        return weights

    def read(self, name):
        """A tensor of the checkpoint; raises CheckpointError with its full name where it is missing or not finite."""
        return read_tensor(self.state, self.prefix + name)

    def matrix(self, name, experts=None, transposed=False):
        """A weight as [N, K], stored as [K, N] if `transposed`; a bias as [N]; those of experts by `as_matrix`."""
        tensor = self.read(name).mT if transposed else self.read(name)
        return tensor if experts is None else as_matrix(tensor, experts)

    def joined(self, names, parts, rows, orders, experts=None, transposed=False, fill=0):
        """Several tensors as one along dim 0, so that each of `parts` equal slices holds its share of all of them.

        `fill`: rows of zeros behind a single one, so that every chip's part has as many.
        """
        selections = zip(names, rows or [None] * len(names), orders or [None] * len(names))
        tensors = [selected(self.matrix(name, experts, transposed), *selection) for name, *selection in selections]
        if len(tensors) == 1:
            return torch.cat([tensors[0], tensors[0].new_zeros(fill, *tensors[0].shape[1:])]) if fill else tensors[0]
        shares = [torch.chunk(tensor, parts) for tensor in tensors]
        return torch.cat([share[part] for part in range(parts) for share in shares])

    def linear(
        self,
        names,
        dtype,
        memory_config,
        parts=1,
        rows=None,
        orders=None,
        input_order=None,
        experts=None,
        transposed=False,
        fill=0,
        input_fill=0,
        mesh_dims=(None, None),
    ):
        """Weights [N, K] of linear layers that share an input -> [1, 1, K, N]; `rows`, `orders` and `input_order`: see `selected`, `fill`: `joined`.

        `input_fill`: so many zeros stand behind the K of each output.
        """
        names = _as_list(names)

        def make():
            joined = self.joined(names, parts, rows, orders, experts, transposed, fill)
            by_input = selected(joined.T, None, input_order)
            return torch.nn.functional.pad(by_input, (0, 0, 0, input_fill)).unsqueeze(0).unsqueeze(0)

        form = f"linear in {parts} parts, {rows}, {orders}, {input_order}, {experts}, {transposed}, plus {fill} and {input_fill}"
        return self._place(form, names, make, mesh_dims, dtype, memory_config=memory_config)

    def bias(
        self,
        names,
        parts=1,
        rows=None,
        orders=None,
        experts=None,
        fill=0,
        mesh_dims=(None, None),
        partial_axes=(),
        memory_config=ttnn.DRAM_MEMORY_CONFIG,
    ):
        """Biases [N] -> [1, 1, 1, N]. Along `partial_axes` the outputs are summed: one chip holds the bias, the others zero."""
        names = _as_list(names)

        def make():
            bias = self.joined(names, parts, rows, orders, experts, fill=fill).reshape(1, 1, 1, -1)
            others = math.prod(cfg.MESH_SHAPE[axis] for axis in partial_axes) - 1
            return torch.cat([bias, torch.zeros_like(bias).expand(others, -1, -1, -1)])

        mesh_dims = tuple(0 if axis in partial_axes else dim for axis, dim in enumerate(mesh_dims))
        transform = f"bias in {parts} parts, {rows}, {orders}, plus {fill}, on {partial_axes}"
        return self._place(transform, names, make, mesh_dims, ttnn.bfloat16, memory_config=memory_config)

    def vector(self, name, softplus=False, mesh_dims=(None, None)):
        """[N], or its softplus -> [1, 1, 1, N], exact: in float32."""

        def make():
            numbers = self.read(name).float().reshape(1, 1, 1, -1)
            return torch.nn.functional.softplus(numbers) if softplus else numbers

        return self._place(f"vector{' after softplus' if softplus else ''}", [name], make, mesh_dims, ttnn.float32)

    def norm(self, name, offset=0.0, order=None, mesh_dims=(None, None)):
        """Weight or bias [H] of a norm, plus `offset` -> rows of one tile width, [1, 1, H / 32, 32].

        Heads in an `order` with zeros have a smaller mean of squares, for which the weight makes up.
        """

        def make():
            return self._scaled_norm(name, offset, order).reshape(1, 1, -1, ttnn.TILE_SIZE)

        return self._place(
            f"norm plus {offset}, {order}", [name], make, mesh_dims, ttnn.bfloat16, ttnn.ROW_MAJOR_LAYOUT
        )

    def norm_in_tiles(self, name, offset=0.0, order=None, mesh_dims=(None, None)):
        """As `norm`, but one row in tiles, [1, 1, 1, H]: what ttnn wants where rows are too wide for a core."""

        def make():
            return self._scaled_norm(name, offset, order).reshape(1, 1, 1, -1)

        return self._place(f"norm plus {offset}, {order}, in tiles", [name], make, mesh_dims, ttnn.bfloat16)

    def _scaled_norm(self, name, offset, order):
        share = 1 if order is None else order[0] / order[3]
        return selected(self.read(name) + offset, None, order) * share**0.5

    def weight_of_heads(self, names, order=None, mesh_dims=(None, None)):
        """Weight [heads, D], or one [D] for each head -> [1, 1, heads, D], for heads [1, users, heads, D]."""
        names = _as_list(names)

        def make():
            weight = torch.cat([torch.atleast_2d(self.read(name)) for name in names])
            return selected(weight.T, None, order).T[None, None]

        return self._place(f"weight of heads, {order}", names, make, mesh_dims, ttnn.bfloat16)

    def embedding(self, name, rows=None, mesh_dims=(None, None)):
        """Table [V, H] -> [1, 1, V, H], row major; `rows`: see `selected`."""

        def make():
            return selected(self.read(name), rows).unsqueeze(0).unsqueeze(0)

        return self._place(f"embedding, {rows}", [name], make, mesh_dims, ttnn.bfloat16, ttnn.ROW_MAJOR_LAYOUT)

    def position_table(self, table):
        """One row for each position, [1, 1, MAX_SEQ_LEN, size]: function `table` of position_tables.py."""
        rows = position_tables.rows(getattr(position_tables, table))
        return to_mesh(self.mesh_device, rows, (None, None), ttnn.bfloat16, ttnn.ROW_MAJOR_LAYOUT)

    def first_user(self, batch, mesh_dims):
        """The first of the users that a chip attends for, [1, 1] on each chip."""
        groups = [size for size, dim in zip(cfg.MESH_SHAPE, mesh_dims) if dim is not None]
        count = torch.tensor(groups).prod().item()
        first = torch.arange(0, batch, batch // count, dtype=torch.int32).reshape(count, 1)
        split = tuple(i for i, dim in enumerate(mesh_dims) if dim is not None)
        if len(split) == 2:  # rows first, then columns within a row
            first, mesh_dims = first.reshape(cfg.MESH_SHAPE), (0, 1)
        return to_mesh(self.mesh_device, first, mesh_dims, ttnn.int32, ttnn.ROW_MAJOR_LAYOUT)

    def first_token(self, width, mesh_dims=(None, None), parts=1, part=0):
        """The first token id of each chip's share of the vocabulary, `width` ids, or of each of its `parts`, of `part` ids: a tile for each.

        [1, 1, 32, 32 * parts] on each chip.
        """
        chips = torch.tensor([size for size, dim in zip(cfg.MESH_SHAPE, mesh_dims) if dim is not None]).prod().int()
        first = torch.arange(0, chips * width, width, dtype=torch.int32).unsqueeze(1) + part * torch.arange(parts)
        first = first.int().flatten().repeat_interleave(ttnn.TILE_SIZE)
        return to_mesh(self.mesh_device, first.repeat(1, 1, ttnn.TILE_SIZE, 1), mesh_dims, ttnn.uint32)

    def fill_of_vocabulary(self, width, mesh_dims):
        """Added to each chip's part of the logits, `width` columns, [1, 1, 1, width]: far below any logit behind the last token, else 0."""
        parts = torch.tensor([size for size, dim in zip(cfg.MESH_SHAPE, mesh_dims) if dim is not None]).prod().item()
        columns = torch.zeros(1, 1, 1, parts * width)
        columns[..., cfg.VOCAB_SIZE :] = -3e38
        return to_mesh(self.mesh_device, columns, mesh_dims, ttnn.bfloat16)

    def sinks(self, name, scale, mesh_dims=(None, None)):
        """Scores [heads] of attention sinks -> [heads, 32], in the first column. The decode kernel scales them as it does others."""

        def make():
            return torch.nn.functional.pad(self.read(name).float().unsqueeze(1) / scale, (0, ttnn.TILE_SIZE - 1))

        return self._place(f"sinks over {scale}", [name], make, mesh_dims, ttnn.bfloat16)

    def chunk_sinks(self, name, scale, mesh_dims=(None, None)):
        """As `sinks` -> [1, heads, 1, 1], the form in which attention of a chunk takes them."""

        def make():
            return self.read(name).float().reshape(1, -1, 1, 1) / scale

        return self._place(f"sinks of a chunk over {scale}", [name], make, mesh_dims, ttnn.bfloat16)

    def expert_columns(self, experts, columns, mesh_dims=(None, None), memory_config=ttnn.DRAM_MEMORY_CONFIG):
        """[1, 1, experts, columns]: in the row of each expert, 1 in the columns that are its own."""

        def make():
            ones = torch.eye(experts).repeat_interleave(columns // experts, 1).reshape(1, 1, experts, columns)
            return to_mesh(self.mesh_device, ones, mesh_dims, ttnn.bfloat8_b, memory_config=memory_config)

        return self._constant((experts, columns, mesh_dims, str(memory_config)), make)

    def filled(self, shape, value):
        """`shape` on each chip, the same number everywhere, row major."""

        def make():
            number = torch.full(shape, value)
            return to_mesh(self.mesh_device, number, (None, None), ttnn.bfloat16, ttnn.ROW_MAJOR_LAYOUT)

        return self._constant((*shape, value), make)

    def _constant(self, key, make):
        if key not in self.constants:
            self.constants[key] = make()
        return self.constants[key]

    def _place(
        self, transform, names, make, mesh_dims, dtype, layout=ttnn.TILE_LAYOUT, memory_config=ttnn.DRAM_MEMORY_CONFIG
    ):
        """Put what `make()` returns on the mesh, through the cache where there is one; `transform` says what `make` does."""
        self.bar.update(len(names))
        if self.cache is None and isinstance(self.state, dict):  # in memory as it is: nothing to save
            return to_mesh(self.mesh_device, make(), mesh_dims, dtype, layout, memory_config)

        def convert():
            return to_host(make(), mesh_dims, dtype, layout)

        if self.cache is None:
            host = convert()
        else:
            full = [self.prefix + name for name in names]
            placement = f"{transform}: {', '.join(full)} along {mesh_dims} of {cfg.MESH_SHAPE}, {dtype}, {layout}"
            host = self.cache.tensor(full[0], placement, convert)
        return ttnn.to_device(host, self.mesh_device, memory_config=memory_config)


def _as_list(names):
    return [names] if isinstance(names, str) else names
