"""Functions of one element, by the names that graphs have for them."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F


def xielu(
    x: torch.Tensor, steep: torch.Tensor, bent: torch.Tensor, slope: torch.Tensor, least: torch.Tensor
) -> torch.Tensor:
    """x > 0: softplus(steep) x^2 + slope x, else (slope + softplus(bent)) (exp(min(x, least)) - 1 - x) + slope x (arXiv:2411.13010)."""
    curve = torch.where(x > 0, F.softplus(steep) * x**2, (slope + F.softplus(bent)) * (x.minimum(least).expm1() - x))
    return curve + slope * x


ACTIVATIONS: dict[str, Callable[..., torch.Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "relu_squared": lambda x: F.relu(x).square(),
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "softplus": F.softplus,
    "tanh": torch.tanh,
    "xielu": xielu,
}


def glu(
    gate: torch.Tensor, up: torch.Tensor, activation: str, limit: float | None = None, alpha: float | None = None
) -> torch.Tensor:
    """activation(gate) times up; `clamped_swiglu`: gate sigmoid(alpha gate) (up + 1), with gate at most `limit` and up within it on both sides."""
    if activation == "clamped_swiglu":
        assert limit is not None and alpha is not None
        gate, up = gate.clamp(max=limit), up.clamp(-limit, limit)
        return gate * torch.sigmoid(alpha * gate) * (up + 1)
    return ACTIVATIONS[activation](gate) * up
