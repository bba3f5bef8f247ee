"""Torch's own functions behind captured ATen ops, and what torch says of them."""

from __future__ import annotations

from typing import Any

import torch

from fx2ttnn.ir import Op


def base_name(op: Op) -> str:
    """`mul` of `aten.mul.Tensor`; other names as they are."""
    parts = op.name.split(".")
    return parts[1] if len(parts) == 3 else op.name


def function_of(op: Op) -> Any:
    """Torch's overload of a captured op such as `aten.mul.Tensor`."""
    _, name, overload = op.name.split(".")
    return getattr(getattr(torch.ops.aten, name), overload)


def is_pointwise(op: Op) -> bool:
    """Whether the op works on each element by itself; a recognised op is none of torch's."""
    return op.name.startswith("aten.") and torch.Tag.pointwise in function_of(op).tags
