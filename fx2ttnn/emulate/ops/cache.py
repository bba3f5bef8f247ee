"""Writing keys and values into caches in place: paged [blocks, hkv, block size, d] or plain [B, hkv, S, d]."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fx2ttnn.emulate.chips import common_chips, on_chips
from fx2ttnn.emulate.registry import emulates
from fx2ttnn.emulate.rounding import round_to
from fx2ttnn.emulate.tensor import EmulatedTensor, EmulationError

Tensor = EmulatedTensor


@emulates("ttnn.experimental.paged_update_cache", raw=True)
def paged_update_cache(
    cache_tensor: Tensor,
    input_tensor: Tensor,
    *,
    update_idxs: Sequence[int] = (),
    update_idxs_tensor: Tensor | None = None,
    page_table: Tensor | None = None,
    cache_position_modulo: int | None = None,
) -> Tensor:
    """Writes [1, B, hkv, d] at each user's position; a position of -1 skips the user."""
    positions = update_idxs_tensor.value if update_idxs_tensor is not None else torch.tensor([[list(update_idxs)]])
    if cache_position_modulo:
        positions = torch.where(positions < 0, positions, positions % cache_position_modulo)
    table = None if page_table is None else page_table.value
    _write(cache_tensor, input_tensor.value[:, :, 0].unsqueeze(-2), positions.long().flatten(2)[..., None], table)
    return cache_tensor


@emulates("ttnn.experimental.paged_fused_update_cache", raw=True)
def paged_fused_update_cache(
    cache_tensor1: Tensor,
    input_tensor1: Tensor,
    cache_tensor2: Tensor,
    input_tensor2: Tensor,
    *,
    update_idxs: Sequence[int] = (),
    update_idxs_tensor: Tensor | None = None,
    page_table: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Two updates at the same positions."""
    where = {"update_idxs": update_idxs, "update_idxs_tensor": update_idxs_tensor, "page_table": page_table}
    first = paged_update_cache(cache_tensor1, input_tensor1, **where)
    return first, paged_update_cache(cache_tensor2, input_tensor2, **where)


@emulates("ttnn.experimental.paged_fill_cache", raw=True)
def paged_fill_cache(
    cache_tensor: Tensor,
    input_tensor: Tensor,
    page_table: Tensor,
    *,
    batch_idx_tensor: Tensor | None = None,
    batch_idx: int = 0,
) -> Tensor:
    """Writes a prompt [b, hkv, S, d] of the users `batch_idx` from position 0 on; a page of -1 is skipped."""
    x = input_tensor.value
    users = batch_idx_tensor.value.flatten(2) if batch_idx_tensor is not None else torch.tensor([[[batch_idx]]])
    chips = common_chips(users, page_table.value)
    table = on_chips(page_table.value, chips)
    rows = on_chips(users, chips).long()[..., None].expand(*chips, users.shape[-1], table.shape[-1])
    positions = torch.arange(x.shape[4]).expand(1, 1, x.shape[2], -1)
    _write(cache_tensor, x, positions, table.gather(2, rows), skip_pages=True)
    return cache_tensor


@emulates("ttnn.fill_cache", "ttnn.kv_cache.fill_cache_for_user_", raw=True)
def fill_cache(cache: Tensor, input: Tensor, batch_index: int, *, update_idx: int = 0) -> Tensor:
    """Writes [1, hkv, S, d] of one user from position `update_idx` on."""
    value = cache.writable(common_chips(input.value))
    rows = slice(update_idx, update_idx + input.value.shape[4])
    value[:, :, batch_index, :, rows] = round_to(input.value[:, :, 0], cache.real.dtype.name)
    return cache


def _write(
    cache: Tensor, x: torch.Tensor, positions: torch.Tensor, table: torch.Tensor | None, skip_pages: bool = False
) -> None:
    """Writes x [r, c, B, hkv, n, d] at `positions` [r, c, B, n] of each user's pages `table` [r, c, B, pages]."""
    chips = common_chips(x, positions, table)
    value = cache.writable(chips)
    chips = (value.shape[0], value.shape[1])
    heads = value.shape[3]  # the input may count padded heads
    x = round_to(x[..., :heads, :, :], cache.real.dtype.name)
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
    value[row, col, block, :, offset] = x[row, col, user, :, token]
