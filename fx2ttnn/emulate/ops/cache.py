"""Writing keys and values into caches in place: paged [blocks, hkv, block size, d] or plain [B, hkv, S, d]."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fx2ttnn.emulate.chips import common_chips, on_chips
from fx2ttnn.emulate.registry import emulates
from fx2ttnn.emulate.rounding import pack
from fx2ttnn.emulate.tensor import EmulationError, Numbers

TILE = 32  # rows


@emulates("ttnn.experimental.paged_update_cache", raw=True, inplace=("cache_tensor",))
def paged_update_cache(
    cache_tensor: Numbers,
    input_tensor: Numbers,
    *,
    update_idxs: Sequence[int] = (),
    update_idxs_tensor: Numbers | None = None,
    page_table: Numbers | None = None,
    cache_position_modulo: int | None = None,
) -> None:
    """Writes [1, B, hkv, d] at each user's position; a position of -1 skips the user."""
    positions = update_idxs_tensor.value if update_idxs_tensor is not None else torch.tensor([[list(update_idxs)]])
    if cache_position_modulo:
        positions = torch.where(positions < 0, positions, positions % cache_position_modulo)
    table = None if page_table is None else page_table.value
    _write(
        cache_tensor,
        _rounded(input_tensor, cache_tensor)[:, :, 0].unsqueeze(-2),
        positions.long().flatten(2)[..., None],
        table,
    )


@emulates("ttnn.experimental.paged_fused_update_cache", raw=True, inplace=("cache_tensor1", "cache_tensor2"))
def paged_fused_update_cache(
    cache_tensor1: Numbers,
    input_tensor1: Numbers,
    cache_tensor2: Numbers,
    input_tensor2: Numbers,
    *,
    update_idxs: Sequence[int] = (),
    update_idxs_tensor: Numbers | None = None,
    page_table: Numbers | None = None,
) -> None:
    """Two updates at the same positions."""
    where = {"update_idxs": update_idxs, "update_idxs_tensor": update_idxs_tensor, "page_table": page_table}
    paged_update_cache(cache_tensor1, input_tensor1, **where)
    paged_update_cache(cache_tensor2, input_tensor2, **where)


@emulates("ttnn.experimental.paged_fill_cache", raw=True, inplace=("cache_tensor",))
def paged_fill_cache(
    cache_tensor: Numbers,
    input_tensor: Numbers,
    page_table: Numbers,
    *,
    batch_idx_tensor: Numbers | None = None,
    batch_idx: int = 0,
    cache_position_modulo: int | None = None,
) -> None:
    """Writes a prompt [b, hkv, S, d] of the users `batch_idx` from position 0 on; a page of -1 is skipped.

    With a modulo the pages are a ring: its last tokens stay.
    """
    x = _rounded(input_tensor, cache_tensor)
    users = batch_idx_tensor.value.flatten(2) if batch_idx_tensor is not None else torch.tensor([[[batch_idx]]])
    chips = common_chips(users, page_table.value)
    table = on_chips(page_table.value, chips)
    rows = on_chips(users, chips).long()[..., None].expand(*chips, users.shape[-1], table.shape[-1])
    kept = x.shape[4] if cache_position_modulo is None else min(x.shape[4], cache_position_modulo)
    x, positions = x[..., -kept:, :], torch.arange(x.shape[4])[-kept:].expand(1, 1, x.shape[2], -1)
    positions = positions % (cache_position_modulo or x.shape[4])
    _write(cache_tensor, x, positions, table.gather(2, rows), skip_pages=True)


@emulates("ttnn.fill_cache", "ttnn.kv_cache.fill_cache_for_user_", raw=True, inplace=("cache",))
def fill_cache(cache: Numbers, input: Numbers, batch_index: int, *, update_idx: int = 0) -> None:
    """Writes [1, hkv, S, d] of one user from position `update_idx` on."""
    value = cache.writable(common_chips(input.value))
    rows = slice(update_idx, update_idx + input.value.shape[4])
    value[:, :, batch_index, :, rows] = _rounded(input, cache)[:, :, 0]


def _rounded(x: Numbers, cache: Numbers) -> torch.Tensor:
    """The numbers of `x` in the cache's data type."""
    return x.value if x.dtype == cache.dtype else pack(x.value, cache.dtype)


def _write(
    cache: Numbers, x: torch.Tensor, positions: torch.Tensor, table: torch.Tensor | None, skip_pages: bool = False
) -> None:
    """Writes x [r, c, B, hkv, n, d], rounded already, at `positions` [r, c, B, n] of each user's pages `table` [r, c, B, pages]."""
    chips = common_chips(x, positions, table)
    value = cache.writable(chips)
    chips = (value.shape[0], value.shape[1])
    heads = value.shape[3]  # the input may count padded heads
    x = x[..., :heads, :, :]
    users = x.shape[2]
    x, positions = on_chips(x, chips), on_chips(positions, chips).expand(*chips, users, -1)
    size = value.shape[4]
    if table is None:
        block, offset = torch.arange(users)[None, None, :, None].expand_as(positions), positions
    else:
        table = on_chips(table, chips)[:, :, :users].long()
        page, offset = positions.div(size, rounding_mode="floor"), positions % size
        if page.amax() >= table.shape[-1]:
            raise EmulationError(f"position {int(positions.max())} lies behind the {table.shape[-1]} pages of {size}")
        block = table.gather(-1, page.clamp(min=0))
    written = positions >= 0
    if skip_pages:
        written = written & (block >= 0)
    row, col, user, token = written.nonzero(as_tuple=True)
    block, offset = block[written], offset[written]
    if block.numel() and (block.min() < 0 or block.max() >= value.shape[2] or offset.max() >= size):
        raise EmulationError(
            f"a write to block {int(block.max())} or {int(block.min())} of {value.shape[2]} blocks of {size}"
        )
    if table is not None and users > 1:
        _check_tiles(torch.stack([row, col, block, offset // TILE], dim=-1), user)
    value[row, col, block, :, offset] = x[row, col, user, :, token]


def _check_tiles(tiles: torch.Tensor, user: torch.Tensor) -> None:
    """An error where two users write one tile [n, 4] of the cache: the kernels read, change and write whole tiles."""
    pairs = torch.cat([tiles, user[:, None]], dim=-1).unique(dim=0)
    _, number = pairs[:, :-1].unique(dim=0, return_counts=True)
    if (number > 1).any():
        raise EmulationError(
            "two users write into one tile of a page in one update: on a card, one of the writes is lost"
        )
