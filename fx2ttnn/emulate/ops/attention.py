"""Scaled dot product attention in ttnn's forms.

The kernels of decode keep scores and weights in bfloat16, and take a fast exponential, of 8 bits that are interpolated between
powers of two: without a program config, with its exp_approx_mode, and, whatever it says, for up to 16 heads. Its error
depends on how far a score is below the highest of its chunk of keys, so that chunks are emulated, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from fx2ttnn.emulate import rounding
from fx2ttnn.emulate.chips import common_chips, on_chips
from fx2ttnn.emulate.matrix_unit import Compute
from fx2ttnn.emulate.registry import emulates
from fx2ttnn.emulate.rounding import to_bits
from fx2ttnn.emulate.tensor import EmulationError, Numbers

_AT_ONCE = 1 << 26  # numbers of keys that are float32 at once
DEFAULT = Compute(passes=2, fp32=False)  # without a compute_kernel_config
TILE = 32
HALF_TILE = 16  # heads whose kernel works on half tiles


@emulates("ttnn.transformer.paged_scaled_dot_product_attention_decode", raw=True)
def paged_decode(
    input_tensor_q: Numbers,
    input_tensor_k: Numbers,
    input_tensor_v: Numbers,
    page_table_tensor: Numbers,
    *,
    is_causal: bool = True,
    attn_mask: Numbers | None = None,
    cur_pos_tensor: Numbers | None = None,
    attention_sink: Numbers | None = None,
    scale: float | None = None,
    sliding_window_size: int | None = None,
    program_config: Any = None,
    compute_kernel_config: Any = None,
    real: Any,
) -> torch.Tensor:
    """q [1, B, h, d], caches [blocks, hkv, block size, d], page table [B, pages], `cur_pos_tensor` [B].

    A position is inclusive; a user at -1 is skipped. Every page that a user sees must be one: at -1 a card reads out of bounds.
    """
    table = page_table_tensor.value.long()
    positions = cur_pos_tensor.value if cur_pos_tensor is not None else None
    size = input_tensor_k.value.shape[4]
    if positions is not None and is_causal:
        used = int(positions.max()) // size + 1
        if used > table.shape[-1]:
            raise EmulationError(f"position {int(positions.max())} lies behind the {table.shape[-1]} pages of {size}")
        table = table[..., : max(1, used)]
        last = positions.flatten(2)[..., None].long()  # [r, c, B, 1]
        first = torch.zeros_like(last) if sliding_window_size is None else (last - sliding_window_size + 1).clamp(min=0)
        page = torch.arange(table.shape[-1])
        _check_pages(table, (page >= first // size) & (page <= last.div(size, rounding_mode="floor")))

    def keys(cache: torch.Tensor, row: slice) -> torch.Tensor:
        return _pages(cache, _part(table, row), row)

    return _decode(
        input_tensor_q, input_tensor_k, input_tensor_v, keys, positions, table, is_causal, attn_mask, attention_sink,
        scale, sliding_window_size, real, Compute.of(compute_kernel_config, DEFAULT), program_config,
    )  # fmt: skip


@emulates("ttnn.transformer.scaled_dot_product_attention_decode", raw=True)
def decode(
    input_tensor_q: Numbers,
    input_tensor_k: Numbers,
    input_tensor_v: Numbers,
    *,
    is_causal: bool = True,
    attn_mask: Numbers | None = None,
    cur_pos: Sequence[int] = (),
    cur_pos_tensor: Numbers | None = None,
    attention_sink: Numbers | None = None,
    scale: float | None = None,
    sliding_window_size: int | None = None,
    program_config: Any = None,
    compute_kernel_config: Any = None,
    real: Any,
) -> torch.Tensor:
    """q [1, B, h, d], caches [B, hkv, S, d], positions [B] (inclusive, -1: skipped)."""
    positions = cur_pos_tensor.value if cur_pos_tensor is not None else torch.tensor([[list(cur_pos)]])
    used = int(positions.max()) + 1 if is_causal else input_tensor_k.value.shape[4]

    def keys(cache: torch.Tensor, row: slice) -> torch.Tensor:
        return _part(cache, row)[..., : max(1, used), :].float()

    return _decode(
        input_tensor_q, input_tensor_k, input_tensor_v, keys, positions, None, is_causal, attn_mask, attention_sink,
        scale, sliding_window_size, real, Compute.of(compute_kernel_config, DEFAULT), program_config,
    )  # fmt: skip


def _decode(
    q: Numbers, k: Numbers, v: Numbers, keys: Any, positions: torch.Tensor | None, table: torch.Tensor | None,
    is_causal: bool, attn_mask: Numbers | None, sink: Numbers | None, scale: float | None, window: int | None, real: Any,
    compute: Compute, program: Any,
) -> torch.Tensor:  # fmt: skip
    """[r, c, 1, B, h, d]; one row of chips at a time where the keys of all are too many."""
    if is_causal and positions is None:
        raise EmulationError("causal attention without positions has no emulation: pass cur_pos_tensor")
    if window is not None and program is not None and program.k_chunk_size == 0:
        raise EmulationError(
            "with a sliding window the kernel is wrong behind it where program_config has it choose the chunks of keys (k_chunk_size 0):"
            " docs/ttnn_issues/window_and_chunk.md"
        )
    mask_value = None if attn_mask is None else attn_mask.value
    chips = common_chips(q.value, k.value, v.value, positions, table, mask_value)
    pages = k.value.shape[4] * (1 if table is None else table.shape[-1])
    number = chips[0] * chips[1] * q.value.shape[3] * k.value.shape[3] * pages * q.value.shape[-1]
    rows = [slice(r, r + 1) for r in range(chips[0])] if number > _AT_ONCE else [slice(None)]
    outs = []
    for row in rows:
        key, value = keys(k.value, row), keys(v.value, row)  # [r, c, B, hkv, n, d]
        query = _part(q.value, row)[:, :, 0].float().unsqueeze(-2)  # [r, c, B, h, 1, d]
        n = torch.arange(key.shape[-2])
        mask = None
        if positions is not None and is_causal:
            at = _part(positions, row).flatten(2)[..., None].long()  # [r, c, B, 1]
            seen = n <= at
            if window is not None:
                seen &= n > at - window
            seen |= at < 0  # a skipped user: any finite number
            mask = torch.zeros(seen.shape).masked_fill(~seen, float("-inf"))[..., None, None, :]
        elif window is not None:
            raise EmulationError("a sliding window without causal attention has no emulation in decode")
        if mask_value is not None:
            added = _part(mask_value, row)[:, :, 0].float().unsqueeze(-2)[..., : key.shape[-2]]  # [r, c, B, h, 1, n]
            mask = added if mask is None else mask + added
        sinks = None if sink is None else _part(sink.value, row).float()[..., :1].flatten(2)  # [r, c, h]
        heads = query.shape[3]
        fast = program is None or bool(program.exp_approx_mode) or (is_causal and heads <= HALF_TILE)
        chunks = None
        if fast and not rounding.PLAIN:
            ends = at if positions is not None and is_causal else torch.full((1, 1, 1, 1), key.shape[-2] - 1)
            chunks = _chunk_sizes(ends, program)[..., None, None]
        out = _attend(query, key, value, mask, scale, sinks, compute, True, chunks).squeeze(-2)
        if positions is not None and is_causal:
            out = out.masked_fill((at < 0)[..., None], float("nan"))  # the kernels leave these rows unwritten
        outs.append(out)
    out = torch.cat(outs)[:, :, None]
    # Where ttnn's result counts padded heads, nobody wrote them.
    return functional.pad(out, (0, 0, 0, real.shape[2] - out.shape[-2]), value=float("nan"))


@emulates("ttnn.transformer.scaled_dot_product_attention")
def prefill(
    input_tensor_q: torch.Tensor,
    input_tensor_k: torch.Tensor,
    input_tensor_v: torch.Tensor,
    *,
    attn_mask: torch.Tensor | None = None,
    is_causal: bool = True,
    scale: float | None = None,
    sliding_window_size: int | None = None,
    attention_sink: torch.Tensor | None = None,
    output_concat_heads: bool = False,
    compute_kernel_config: Any = None,
) -> torch.Tensor:
    """q [b, h, S, d], k and v [b, hkv, S, d]; `attn_mask` is added to the scores."""
    queries, keys = input_tensor_q.shape[-2], input_tensor_k.shape[-2]
    seen = _seen(queries, keys, max(0, keys - queries), is_causal, sliding_window_size)
    mask = torch.zeros(queries, keys).masked_fill(~seen, float("-inf"))
    mask = mask if attn_mask is None else mask + attn_mask
    sinks = None if attention_sink is None else attention_sink[..., 0].flatten(2)
    compute = Compute.of(compute_kernel_config, DEFAULT)
    out = _attend(input_tensor_q, input_tensor_k, input_tensor_v, mask, scale, sinks, compute)
    return out.transpose(-3, -2).flatten(-2).unsqueeze(3) if output_concat_heads else out


@emulates("ttnn.transformer.chunked_scaled_dot_product_attention", raw=True)
def chunked(
    input_tensor_q: Numbers,
    input_tensor_k: Numbers,
    input_tensor_v: Numbers,
    page_table_tensor: Numbers,
    chunk_start_idx: int | None = None,
    *,
    chunk_start_idx_tensor: Numbers | None = None,
    scale: float | None = None,
    sliding_window_size: int | None = None,
    attention_sink: Numbers | None = None,
    compute_kernel_config: Any = None,
) -> torch.Tensor:
    """q [b, h, S, d] at positions from `chunk_start_idx` on, over paged caches that hold the chunk already."""
    q = input_tensor_q.value.float()
    start: Any = chunk_start_idx
    if chunk_start_idx_tensor is not None:  # chips may have other tokens of the chunk
        start = chunk_start_idx_tensor.value.long().reshape(*chunk_start_idx_tensor.value.shape[:2], 1, 1, 1, 1)
    size = input_tensor_k.value.shape[4]
    total = int(torch.as_tensor(start).max()) + q.shape[-2]
    table = page_table_tensor.value.long()
    if total > table.shape[-1] * size:
        raise EmulationError(f"{total} tokens lie behind the {table.shape[-1]} pages of {size}")
    table = table[..., : q.shape[2], : -(-total // size)]
    _check_pages(table, torch.tensor(True))
    key, value = (_pages(cache.value, table, slice(None))[..., :total, :] for cache in (input_tensor_k, input_tensor_v))
    seen = _seen(q.shape[-2], total, start, True, sliding_window_size)
    mask = torch.zeros(seen.shape).masked_fill(~seen, float("-inf"))
    sinks = None if attention_sink is None else attention_sink.value[..., 0].flatten(2).float()
    return _attend(q, key, value, mask, scale, sinks, Compute.of(compute_kernel_config, DEFAULT))


def _seen(queries: int, keys: int, start: int | torch.Tensor, causal: bool, window: int | None) -> torch.Tensor:
    """Which key each query sees; query 0 stands at position `start`, or that of each chip. A window without causality is centred."""
    at, n = start + torch.arange(queries)[:, None], torch.arange(keys)
    seen = (n <= at) if causal else torch.ones(queries, keys, dtype=torch.bool)
    if window is not None:
        seen = seen & (n > at - window) if causal else ((n - at).abs() <= window // 2)
    return seen


def _attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None, scale: float | None, sink: Any,
    compute: Compute, decode: bool = False, chunks: torch.Tensor | None = None,
) -> torch.Tensor:  # fmt: skip
    """q [r, c, b, h, s, d], k and v [r, c, b, hkv, n, d], mask [.., b, h, s, n] or less, sink [r, c, h] -> as q.

    Neighbouring query heads share a key head. The sink is one more score, scaled too, without a value. `chunks` [r, c, b, 1, 1, 1]:
    how many keys share a maximum, where the exponential is the fast one.
    """
    groups, heads, queries = k.shape[3], q.shape[3], q.shape[4]
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    rows = compute.activations(q).unflatten(3, (groups, -1)).flatten(4, 5)  # the heads of a group as more queries
    scores = (rows @ compute.weights(k).mT).unflatten(4, (-1, queries)).flatten(3, 4)  # [r, c, b, h, s, n]
    scores = (to_bits(scores, 8) if decode and not rounding.PLAIN else scores).mul_(scale)
    scores = scores if mask is None else scores + mask
    extra = None if sink is None else sink[:, :, None, :, None, None].expand(*scores.shape[:-1], 1) * scale
    if chunks is not None:
        weights = _fast_softmax(scores, chunks, extra)
    elif extra is None:
        weights = torch.softmax(scores, dim=-1)
    else:
        weights = torch.softmax(torch.cat([scores, extra], dim=-1), dim=-1)[..., :-1]
    out = compute.activations(weights).unflatten(3, (groups, -1)).flatten(4, 5) @ compute.weights(v)
    return out.unflatten(4, (heads // groups, queries)).flatten(3, 4)


def _chunk_sizes(last: torch.Tensor, program: Any) -> torch.Tensor:
    """How many keys the kernel of decode takes at once for users at positions `last`: what the program says, else a power of two
    of up to 8 tiles."""
    said = 0 if program is None else program.k_chunk_size
    if said:
        return torch.full_like(last, said)
    tiles = (last.clamp(min=0) // TILE + 1).clamp(max=8)
    return TILE * (2 ** tiles.float().log2().ceil()).to(last.dtype)


def _fast_softmax(scores: torch.Tensor, chunks: torch.Tensor, extra: torch.Tensor | None) -> torch.Tensor:
    """Softmax of [.., n], masked by -inf, by the fast exponential below the maximum of each chunk of keys."""
    number = scores.shape[-1]
    highest = torch.full_like(scores, float("-inf"))
    for size in chunks.unique().tolist():
        padded = functional.pad(scores, (0, -number % size), value=float("-inf")).unflatten(-1, (-1, size))
        of_size = padded.amax(-1, keepdim=True).expand_as(padded).flatten(-2)[..., :number]
        highest = torch.where(chunks == size, of_size, highest)
    highest = highest.clamp(min=torch.finfo(torch.float32).min)
    top = highest.amax(-1, keepdim=True)
    top = top if extra is None else torch.maximum(top, extra)
    weights = to_bits(fast_exponential(scores - highest), 8).mul_((highest - top).exp())
    total = weights.sum(-1, keepdim=True)
    return weights / (total if extra is None else total + (extra - top).exp())


def fast_exponential(x: torch.Tensor) -> torch.Tensor:
    """exp(x) for x <= 0 as the vector unit approximates it: the bits of x / ln 2 as exponent and first 8 bits of a float32.

    The constants are those of ttnn's ckernel_sfpu_exp.h: 256 / ln 2, and 127 * 256 less what centres the error.
    """
    bits = (x * 369.329925537109375 + 32500.818359375).round_().clamp_(0, 32767)
    return (bits.to(torch.int32) << 15).view(torch.float32)


def _part(value: torch.Tensor, row: slice) -> torch.Tensor:
    """The chips of one row of the mesh; of all where all rows agree."""
    return value if value.shape[0] == 1 else value[row]


def _check_pages(table: torch.Tensor, seen: torch.Tensor) -> None:
    """An error where a page that is seen is -1. table [r, c, B, pages], `seen` as it or to be broadcast."""
    holes = ((table < 0) & seen).nonzero()
    if len(holes):
        user, page = holes[0, -2:].tolist()
        raise EmulationError(
            f"page {page} of user {user} is -1 in the page table, and the user's position is at or behind it"
        )


def _pages(cache: torch.Tensor, table: torch.Tensor, row: slice) -> torch.Tensor:
    """[r, c, B, hkv, pages * block size, d] float32: each user's pages of [r, c, blocks, hkv, block size, d]."""
    cache = _part(cache, row)
    rows, cols, blocks = cache.shape[:3]
    chips = common_chips(cache, table)
    if table.max() >= blocks:
        raise EmulationError(f"the page table names block {int(table.max())} of {blocks}")
    first = (torch.arange(rows * cols) * blocks).reshape(rows, cols, 1, 1)
    index = on_chips(table.clamp(min=0) + first, chips)  # -1 stands for pages that no position reaches
    found = cache.flatten(0, 2).index_select(0, index.flatten()).float()
    return found.reshape(*index.shape, *cache.shape[3:]).transpose(-4, -3).flatten(-3, -2)
