"""The experts function registered with transformers: every expert computes every token, the router's weights choose.

A loop over the experts that were hit depends on data and cannot be traced; this form is the same maths in static shapes.
"""

from __future__ import annotations

from typing import Any

import torch

from fx2ttnn.errors import CaptureError

NAME = "fx2ttnn"


def experts_function(
    self: Any, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
) -> torch.Tensor:
    """hidden [T, H], index and weights [T, K] -> [T, H]. `self` holds weights [E, 2I, H] (or [E, I, H]) and [E, H, I]."""
    if getattr(self, "has_post_expert_norm", False):
        raise CaptureError("experts with a norm after each expert are not supported")
    up_name = "gate_up_proj" if self.has_gate else "up_proj"
    tokens = hidden_states.unsqueeze(0).expand(self.num_experts, -1, -1)
    inner = _project(self, up_name, tokens)
    inner = self._apply_gate(inner) if self.has_gate else self.act_fn(inner)
    outputs = _project(self, "down_proj", inner)
    return (outputs * _dense_weights(self.num_experts, top_k_index, top_k_weights)).sum(dim=0)


def _project(self: Any, name: str, x: torch.Tensor) -> torch.Tensor:
    """x [E, T, in] -> [E, T, out] with the experts' weight (and bias) of that name."""
    weight = getattr(self, name)
    out = torch.matmul(x, weight if self.is_transposed else weight.transpose(-1, -2))
    return out + getattr(self, f"{name}_bias").unsqueeze(1) if self.has_bias else out


def _dense_weights(experts: int, index: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """index and weights [T, K] -> the weight of each expert for each token, zero where it was not chosen, [E, T, 1]."""
    chosen = index.unsqueeze(-1) == torch.arange(experts)
    return (chosen * weights.unsqueeze(-1)).sum(dim=1).transpose(0, 1).unsqueeze(-1)


def register() -> None:
    """Makes it known to transformers; doing it again changes nothing."""
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

    ALL_EXPERTS_FUNCTIONS.register(NAME, experts_function)
