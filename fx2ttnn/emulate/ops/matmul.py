"""Matrix products."""

from __future__ import annotations

from typing import Any

import torch

from fx2ttnn.emulate.chips import LEAD, align, common_chips
from fx2ttnn.emulate.ops.elementwise import activate
from fx2ttnn.emulate.registry import emulates
from fx2ttnn.emulate.tensor import EmulatedTensor

_CHUNK = 1 << 25  # elements of a weight that are float32 at once
_BIG = 1 << 20  # elements of a weight from which on it is worth to stay in bfloat16


@emulates("ttnn.linear", "ttnn.matmul", raw=True)
def linear(
    input_tensor_a: EmulatedTensor,
    input_tensor_b: EmulatedTensor,
    *,
    bias: EmulatedTensor | None = None,
    transpose_a: bool = False,
    transpose_b: bool = False,
    activation: Any = None,
    program_config: Any = None,
    real: Any,
) -> torch.Tensor:
    """[.., m, k] x [.., k, n] -> [.., m, n]."""
    a, b = align(input_tensor_a.value, input_tensor_b.value)
    fused = getattr(program_config, "fused_activation", None)
    plain = bias is None and activation is None and fused is None
    half = plain and real.dtype.name == "BFLOAT16" and a.dtype == b.dtype == torch.bfloat16 and b.numel() >= _BIG
    out = product(a.mT if transpose_a else a, b.mT if transpose_b else b, torch.bfloat16 if half else torch.float32)
    if bias is not None:
        out, add = align(out, bias.value)
        out = out + add
    return activate(activate(out, fused), activation)


def product(a: torch.Tensor, b: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Matrix product in float32 of stored values a [r, c, .., m, k] and b [r, c, .., k, n].

    In bfloat16, torch sums in float32 too and rounds once at the end. A weight (no batches of its own) is read once:
    chip by chip, with all chips of `a` that share a chip of `b` as rows of one product.
    """
    if any(n > 1 for n in b.shape[LEAD:-2]):
        return torch.einsum("...mk,...kn->...mn", a.float(), b.float())
    a, chips = a.to(dtype), common_chips(a, b)
    found = []
    for row in range(b.shape[0]):
        for col in range(b.shape[1]):
            x = a[_chip(a, b, 0, row), _chip(a, b, 1, col)]
            found.append(_matrix_product(x, b[row, col].reshape(b.shape[-2:])))
    across = [torch.cat(found[i : i + b.shape[1]], dim=1) for i in range(0, len(found), b.shape[1])]
    return torch.cat(across, dim=0).reshape(*chips, *a.shape[LEAD:-1], b.shape[-1])


def _chip(a: torch.Tensor, b: torch.Tensor, axis: int, chip: int) -> slice:
    """The chips of `a` along a mesh axis that multiply chip `chip` of `b`: all of them where `b` has one."""
    return slice(None) if b.shape[axis] == 1 or a.shape[axis] == 1 else slice(chip, chip + 1)


def _matrix_product(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """x [.., k] by w [k, n], of which a part is converted to the type of `x` at a time."""
    rows = x.reshape(-1, x.shape[-1])
    parts = w.split(max(1, _CHUNK // w.shape[0]), dim=-1)
    out = torch.cat([rows @ part.to(x.dtype) for part in parts], dim=-1)
    return out.reshape(*x.shape[:-1], w.shape[-1])
