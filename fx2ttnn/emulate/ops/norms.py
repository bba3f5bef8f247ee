"""Normalisations, whole and split over chips."""

from __future__ import annotations

import torch
from torch.nn import functional

from fx2ttnn.emulate.chips import LEAD, common_chips, whole_axis
from fx2ttnn.emulate.registry import emulates
from fx2ttnn.emulate.rounding import pack
from fx2ttnn.emulate.tensor import Numbers

TILE = 32


def _per_column(parameter: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Weight or bias in any of ttnn's shapes ([.., H] or [.., H / 32, 32]) as [r, c, 1.., H]."""
    flat = parameter.flatten(LEAD)
    return flat.reshape(*flat.shape[:LEAD], *[1] * (like.dim() - LEAD - 1), flat.shape[-1])


def _scaled(x: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None) -> torch.Tensor:
    x = x if weight is None else x * _per_column(weight, x)
    return x if bias is None else x + _per_column(bias, x)


@emulates("ttnn.rms_norm")
def rms_norm(
    input_tensor: torch.Tensor,
    *,
    epsilon: float = 1e-12,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    residual_input_tensor: torch.Tensor | None = None,
) -> torch.Tensor:
    x = input_tensor if residual_input_tensor is None else input_tensor + residual_input_tensor
    return _scaled(x * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon), weight, bias)


@emulates("ttnn.layer_norm")
def layer_norm(
    input_tensor: torch.Tensor,
    *,
    epsilon: float = 1e-12,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    residual_input_tensor: torch.Tensor | None = None,
) -> torch.Tensor:
    x = input_tensor if residual_input_tensor is None else input_tensor + residual_input_tensor
    return _scaled(functional.layer_norm(x, x.shape[-1:], eps=epsilon), weight, bias)


def _tiles(*columns: torch.Tensor) -> torch.Tensor:
    """One tile of statistics per argument [.., 1]: the number in column 0, zeros behind it."""
    return torch.cat([functional.pad(column, (0, TILE - 1)) for column in columns], dim=-1)


def _with_residual(x: Numbers, residual: Numbers | None) -> torch.Tensor:
    """The input, with the residual added, in float32.

    The kernel for sharded inputs writes the sum over the input's shard, the one for interleaved inputs does not.
    """
    if residual is None:
        return x.value.float()
    total = pack(x.value.float() + residual.value.float(), x.dtype)
    if x.spec.memory_config.is_sharded():
        x.writable(common_chips(total)).copy_(total)
    return total.float()


@emulates("ttnn.rms_norm_pre_all_gather", raw=True)
def rms_norm_pre_all_gather(input_tensor: Numbers, *, residual_input_tensor: Numbers | None = None) -> torch.Tensor:
    """[.., h] -> [.., 32]: the sum of squares of the chip's columns."""
    return _tiles(_with_residual(input_tensor, residual_input_tensor).square().sum(-1, keepdim=True))


@emulates("ttnn.layer_norm_pre_all_gather", raw=True)
def layer_norm_pre_all_gather(input_tensor: Numbers, *, residual_input_tensor: Numbers | None = None) -> torch.Tensor:
    """[.., h] -> [.., 64]: the sum of squares, then the sum of the chip's columns."""
    x = _with_residual(input_tensor, residual_input_tensor)
    return _tiles(x.square().sum(-1, keepdim=True), x.sum(-1, keepdim=True))


@emulates("ttnn.rms_norm_post_all_gather")
def rms_norm_post_all_gather(
    input_tensor: torch.Tensor,
    stats: torch.Tensor,
    *,
    epsilon: float = 1e-12,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """The chip's columns [.., h] of the norm over all chips, from their gathered statistics [.., 32 * chips]."""
    squares = stats[..., ::TILE]
    mean_square = squares.sum(-1, keepdim=True) / (squares.shape[-1] * input_tensor.shape[-1])
    return _scaled(input_tensor * torch.rsqrt(mean_square + epsilon), weight, bias)


@emulates("ttnn.fused_rms_minimal", raw=True)
def fused_rms_minimal(
    input_tensor: Numbers,
    *,
    cluster_axis: int,
    epsilon: float = 1e-12,
    weight: Numbers | None = None,
    residual_input_tensor: Numbers | None = None,
) -> torch.Tensor:
    """The chip's columns [.., h] of the norm over all chips of an axis; the sum with a residual is written over the residual."""
    x = input_tensor.value.float()
    if residual_input_tensor is not None:
        total = pack(x + residual_input_tensor.value.float(), residual_input_tensor.dtype)
        residual_input_tensor.writable(common_chips(total)).copy_(total)
        x = total.float()
    squares = whole_axis(x.square().mean(-1, keepdim=True), cluster_axis)
    normed = x * torch.rsqrt(squares.mean(cluster_axis, keepdim=True) + epsilon)
    return _scaled(normed, weight if weight is None else weight.value.float(), None)


@emulates("ttnn.layer_norm_post_all_gather")
def layer_norm_post_all_gather(
    input_tensor: torch.Tensor,
    stats: torch.Tensor,
    *,
    epsilon: float = 1e-12,
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """The chip's columns [.., h] of the norm over all chips, from their gathered statistics [.., 64 * chips]."""
    squares, sums = stats[..., :: 2 * TILE], stats[..., TILE :: 2 * TILE]
    width = squares.shape[-1] * input_tensor.shape[-1]
    mean = sums.sum(-1, keepdim=True) / width
    variance = squares.sum(-1, keepdim=True) / width - mean.square()
    return _scaled((input_tensor - mean) * torch.rsqrt(variance + epsilon), weight, bias)
