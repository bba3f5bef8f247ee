"""Splitting a fused projection into heads, joining heads, rotary embeddings."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from fx2ttnn.emulate.chips import common_chips, on_chips
from fx2ttnn.emulate.registry import emulates
from fx2ttnn.emulate.tensor import EmulationError

Triple = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@emulates("ttnn.experimental.nlp_create_qkv_heads_decode", moves=True)
def create_heads_decode(
    input_tensor: torch.Tensor,
    *,
    num_heads: int,
    num_kv_heads: int | None = None,
    batch_offset: torch.Tensor | None = None,
    slice_size: int | None = None,
) -> Triple:
    """[1, 1, B, (hq + 2 hkv) d] -> q [1, B, hq, d], k and v [1, B, hkv, d]; of some users per chip with an offset."""
    kv_heads = num_heads if num_kv_heads is None else num_kv_heads
    x = input_tensor[:, :, 0]  # [r, c, 1, B, width]
    if batch_offset is not None:
        x = _users(x, batch_offset, slice_size or x.shape[-2])
    heads = x.unflatten(-1, (num_heads + 2 * kv_heads, -1))
    return tuple(heads.split([num_heads, kv_heads, kv_heads], dim=-2))


def _users(x: torch.Tensor, batch_offset: torch.Tensor, count: int) -> torch.Tensor:
    """`count` users [r, c, 1, count, w] of x [r, c, 1, B, w], from the offset of each chip on."""
    chips = common_chips(x, batch_offset)
    first = on_chips(batch_offset.flatten(2)[..., :1], chips).long()  # [r, c, 1]
    users = (first + torch.arange(count))[:, :, None, :, None]
    return on_chips(x, chips).gather(3, users.expand(*chips, 1, count, x.shape[-1]))


@emulates("ttnn.experimental.nlp_create_qkv_heads", moves=True)
def create_heads(
    input: torch.Tensor,
    input_kv: torch.Tensor | None = None,
    *,
    num_heads: int,
    num_kv_heads: int | None = None,
    transpose_k_heads: bool = True,
) -> Triple:
    """[b, 1, S, (hq + 2 hkv) d] -> q [b, hq, S, d], k and v [b, hkv, S, d]; k is [b, hkv, d, S] when transposed."""
    kv_heads = num_heads if num_kv_heads is None else num_kv_heads
    if input_kv is None:
        parts = (
            input[:, :, :, 0]
            .unflatten(-1, (num_heads + 2 * kv_heads, -1))
            .split([num_heads, kv_heads, kv_heads], dim=-2)
        )
    else:
        kv = input_kv[:, :, :, 0].unflatten(-1, (2 * kv_heads, -1)).split(kv_heads, dim=-2)
        parts = (input[:, :, :, 0].unflatten(-1, (num_heads, -1)), *kv)
    q, k, v = (part.transpose(-3, -2) for part in parts)
    return q, (k.mT if transpose_k_heads else k), v


@emulates("ttnn.experimental.nlp_concat_heads_decode", moves=True)
def concat_heads_decode(input_tensor: torch.Tensor, *, num_heads: int, real: Any) -> torch.Tensor:
    """[1, B, h padded, d] -> [1, 1, 32, heads * d]: ttnn always counts 32 users; nobody writes those behind B."""
    out = input_tensor[:, :, :, None, :, :num_heads].flatten(-2)
    return functional.pad(out, (0, 0, 0, real.shape[2] - out.shape[-2]), value=float("nan"))


@emulates("ttnn.experimental.nlp_concat_heads", moves=True)
def concat_heads(input_tensor: torch.Tensor) -> torch.Tensor:
    """[b, h, S, d] -> [b, 1, S, h * d]."""
    return input_tensor.transpose(-3, -2).flatten(-2).unsqueeze(3)


@emulates("ttnn.experimental.rotary_embedding_hf")
def rotary_hf(
    input_tensor: torch.Tensor, cos_cache: torch.Tensor, sin_cache: torch.Tensor, *, is_decode_mode: bool = False
) -> torch.Tensor:
    """Halves rotate. Decode: [1, B, h, d] with cos [1, B, 1, d]; prefill: [b, h, S, d] with cos [1, 1, S, d]."""
    rows = 1 if is_decode_mode else input_tensor.shape[-2]
    cos, sin = cos_cache[..., :rows, :], sin_cache[..., :rows, :]
    if is_decode_mode:
        cos, sin = (x[..., : input_tensor.shape[-3], :, :] for x in (cos, sin))
    return input_tensor * cos + _rotate_half(input_tensor) * sin


@emulates("ttnn.experimental.rotary_embedding")
def rotary(
    input_tensor: torch.Tensor,
    cos_cache: torch.Tensor,
    sin_cache: torch.Tensor,
    token_index: int | None = None,
    *,
    real: Any,
) -> torch.Tensor:
    """As rotary_embedding_hf in prefill; with a token index, all rows take that row of the caches."""
    rows = slice(input_tensor.shape[-2]) if token_index is None else slice(token_index, token_index + 1)
    out = input_tensor * cos_cache[..., rows, :] + _rotate_half(input_tensor) * sin_cache[..., rows, :]
    return functional.pad(out, (0, 0, 0, real.shape[2] - out.shape[-2]))  # ttnn's result counts whole tiles


@emulates("ttnn.experimental.rotary_embedding_llama")
def rotary_llama(
    input_tensor: torch.Tensor,
    cos_cache: torch.Tensor,
    sin_cache: torch.Tensor,
    trans_mat: torch.Tensor,
    *,
    is_decode_mode: bool = False,
) -> torch.Tensor:
    """Pairs of neighbours rotate, by a product of each 32 columns with the 32x32 `trans_mat`."""
    rows = 1 if is_decode_mode else input_tensor.shape[-2]
    return input_tensor * cos_cache[..., :rows, :] + _turned(input_tensor, trans_mat) * sin_cache[..., :rows, :]


@emulates("ttnn.experimental.rotary_embedding_llama_fused_qk")
def rotary_of_both(
    q_input_tensor: torch.Tensor,
    k_input_tensor: torch.Tensor,
    cos_cache: torch.Tensor,
    sin_cache: torch.Tensor,
    trans_mat: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries and keys [1, B, h, d] of a step: pairs of neighbours rotate; cos and sin [1, 2 B, 1, d] have a row for each user's queries, then for its keys."""
    users = q_input_tensor.shape[-3]
    cos, sin = (x[..., :1, :].split(users, dim=-3) for x in (cos_cache, sin_cache))
    return tuple(x * cos[n] + _turned(x, trans_mat) * sin[n] for n, x in enumerate((q_input_tensor, k_input_tensor)))


@emulates("ttnn.experimental.dit_fused_distributed_rmsnorm")
def norm_and_rotary(
    input_tensor: torch.Tensor,
    cluster_axis: int | None,
    mesh_device: Any,
    multi_device_global_semaphore: list[Any],
    *,
    epsilon: float = 1e-5,
    num_heads_per_device: int = 1,
    weight: torch.Tensor,
    transformation_mat: torch.Tensor,
    rope_cos: torch.Tensor,
    rope_sin: torch.Tensor,
) -> torch.Tensor:
    """An RMS norm of each row, and its rotation by a row of cos and sin each. dit_rmsnorm_fused_compute.cpp of ttnn rounds its result only."""
    if cluster_axis is not None or num_heads_per_device > 1:
        raise EmulationError("ttnn.experimental.dit_fused_distributed_rmsnorm: of whole rows that a chip holds only")
    scale = torch.rsqrt(input_tensor.square().mean(-1, keepdim=True) + epsilon)
    normed = input_tensor * scale * weight[..., :1, :]
    return normed * rope_cos + _turned(normed, transformation_mat) * rope_sin


def _turned(x: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Each 32 columns times the 32x32 `matrix`."""
    if x.shape[-1] % 32:
        raise EmulationError("a rotary embedding of neighbours: the head dim is no multiple of 32")
    return (x.unflatten(-1, (-1, 32)) @ matrix[:, :, :1, :1, :32, :32].unsqueeze(-3)).flatten(-2)


def _rotate_half(x: torch.Tensor) -> torch.Tensor:
    first, second = x.chunk(2, dim=-1)
    return torch.cat((-second, first), dim=-1)
