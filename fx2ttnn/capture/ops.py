"""The custom ops a captured graph may hold besides ATen: attention, the cache update, positions, experts and a folded layer.

They only have shape functions: they are traced, never run. All are functional, so that a tracer may treat them like any
other op.
"""

from __future__ import annotations

import torch

_LIBRARY = torch.library.Library("fx2ttnn", "DEF")
_LIBRARY.define(
    "attention(Tensor q, Tensor k, Tensor v, float scaling, int? sliding_window, float? softcap, Tensor? sinks) -> Tensor"
)
_LIBRARY.define("own_positions(Tensor position_ids) -> Tensor")
_LIBRARY.define("update_cache(Tensor k, Tensor v, int layer, int max_seq_len) -> (Tensor, Tensor)")
_LIBRARY.define(
    "experts(Tensor hidden, Tensor index, Tensor weights, Tensor up, Tensor down, Tensor? up_bias, Tensor? down_bias,"
    " bool transposed, str activation, str? gate, float? limit, float? alpha) -> Tensor"
)
_LIBRARY.define("uncaptured(Tensor[] inputs, int[] shape, ScalarType dtype, str why) -> Tensor")
# `takes` and `gives` are what the representative layer took and gave: they say which of its values are replaced.
_LIBRARY.define("layer(Tensor hidden, Tensor takes, Tensor gives, int index, str like) -> Tensor")


@torch.library.register_fake("fx2ttnn::attention")
def _attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    scaling: float,
    sliding_window: int | None,
    softcap: float | None,
    sinks: torch.Tensor | None,
) -> torch.Tensor:
    """q [B, H, S, D], k [B, Hkv, L, D], v [B, Hkv, L, Dv] -> [B, S, H, Dv]."""
    return q.new_empty(q.shape[0], q.shape[2], q.shape[1], v.shape[3])


@torch.library.register_fake("fx2ttnn::own_positions")
def _own_positions(position_ids: torch.Tensor) -> torch.Tensor:
    """[B, S] -> [S]: what stands for the positions of each user's own tokens where a model knows of no users (own_positions.py)."""
    return position_ids.new_empty(position_ids.shape[1])


@torch.library.register_fake("fx2ttnn::update_cache")
def _update_cache(k: torch.Tensor, v: torch.Tensor, layer: int, max_seq_len: int) -> tuple[torch.Tensor, torch.Tensor]:
    """k [B, Hkv, S, D], v [B, Hkv, S, Dv] -> the whole cache [B, Hkv, max_seq_len, D or Dv]."""
    cache_k = k.new_empty(k.shape[0], k.shape[1], max_seq_len, k.shape[3])
    return cache_k, v.new_empty(v.shape[0], v.shape[1], max_seq_len, v.shape[3])


@torch.library.register_fake("fx2ttnn::experts")
def _experts(hidden: torch.Tensor, index: torch.Tensor, weights: torch.Tensor, *rest: object) -> torch.Tensor:
    """hidden [T, H], index and weights [T, K], the experts' weights -> [T, H]."""
    return torch.empty_like(hidden)


@torch.library.register_fake("fx2ttnn::uncaptured")
def _uncaptured(inputs: list[torch.Tensor], shape: list[int], dtype: torch.dtype, why: str) -> torch.Tensor:
    """What a module that cannot be traced makes of its inputs (uncaptured.py)."""
    return torch.empty(shape, dtype=dtype, device=inputs[0].device)


@torch.library.register_fake("fx2ttnn::layer")
def _layer(hidden: torch.Tensor, takes: torch.Tensor, gives: torch.Tensor, index: int, like: str) -> torch.Tensor:
    """hidden [...] -> what the representative gave, [...]."""
    return torch.empty_like(gives)
