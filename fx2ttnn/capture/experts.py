"""The experts function registered with transformers: one op of the graph instead of a loop that depends on the data.

What stands between an expert's two products is Python of the model; it is found by trying it on numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes

from fx2ttnn.errors import CaptureError
from fx2ttnn.ops.routing import activated

NAME = "fx2ttnn"
_TRIED = ("silu", "gelu", "gelu_tanh", "relu", "sigmoid", "tanh", "relu_squared")


def experts_function(
    self: Any, hidden_states: torch.Tensor, top_k_index: torch.Tensor, top_k_weights: torch.Tensor
) -> torch.Tensor:
    """hidden [T, H], index and weights [T, K] -> [T, H]. Raises CaptureError for what the op cannot express."""
    if getattr(self, "has_post_expert_norm", False):
        raise CaptureError("experts with a norm after each expert are not supported")
    if any(x.dim() != 2 for x in (hidden_states, top_k_index, top_k_weights)):
        raise CaptureError("experts that are not called with tokens in rows are not supported")
    up = "gate_up_proj" if self.has_gate else "up_proj"
    biases = [getattr(self, f"{name}_bias") if self.has_bias else None for name in (up, "down_proj")]
    return torch.ops.fx2ttnn.experts(
        hidden_states,
        top_k_index,
        top_k_weights,
        getattr(self, up),
        self.down_proj,
        *biases,
        bool(self.is_transposed),
        *_activation(self),
    )


def _activation(self: Any) -> tuple[str, str | None, float | None, float | None]:
    """The arguments of `activated` with which it computes what the experts compute between their products."""
    with _disable_current_modes(), torch.no_grad():
        # In float64: the same function may be written so that float32 cancels.
        x = 8 * torch.randn(64, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        wanted = self._apply_gate(x.clone()) if self.has_gate else self.act_fn(x.clone())
        for candidate in _candidates(self):
            found = activated(x, *candidate)
            if found.shape == wanted.shape and torch.allclose(found, wanted.double(), rtol=1e-5, atol=1e-6):
                return candidate
    raise CaptureError("what the experts compute between their two products is not supported")


def _candidates(self: Any) -> Iterator[tuple[str, str | None, float | None, float | None]]:
    gates = ("halves", "neighbours") if self.has_gate else (None,)
    for gate in gates:
        yield from ((name, gate, None, None) for name in _TRIED)
        if gate:
            limits, alphas = (
                {n for name, n in vars(self).items() if name.endswith(word) and n} for word in ("limit", "alpha")
            )
            yield from (("clamped_swiglu", gate, float(n), float(a)) for n in limits for a in alphas or {1.0})


def register() -> None:
    """Makes it known to transformers; doing it again changes nothing."""
    from transformers.integrations.moe import ALL_EXPERTS_FUNCTIONS

    from fx2ttnn.capture import ops  # noqa: F401  (defines the op)

    ALL_EXPERTS_FUNCTIONS.register(NAME, experts_function)
