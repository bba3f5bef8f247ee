"""What a tensor holds that a model makes of nothing but numbers, while it is traced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx.experimental.proxy_tensor import get_proxy_mode, get_proxy_slot
from torch.utils._python_dispatch import _disable_current_modes


def holds(tensor: torch.Tensor, numbers: Sequence[int]) -> bool:
    """Whether a tensor of one dim is known to hold these numbers: it has values, or the trace made it by one op of numbers, such as `arange`."""
    made = _maker(tensor) if isinstance(tensor, FakeTensor) else None
    with _disable_current_modes():
        value = tensor if made is None else made.target(*made.args, **made.kwargs)  # type: ignore[operator]
        return not isinstance(value, FakeTensor) and value.dim() == 1 and value.tolist() == list(numbers)


def _maker(tensor: FakeTensor) -> torch.fx.Node | None:
    """The op of a trace that made a tensor of no other tensor."""
    mode: Any = get_proxy_mode()
    slot: Any = get_proxy_slot(tensor, mode.tracer, None) if mode else None
    node = slot.proxy.node if slot else None
    return node if node is not None and node.op == "call_function" and not node.all_input_nodes else None
