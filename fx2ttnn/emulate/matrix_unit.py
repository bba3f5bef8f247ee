"""What the chip's matrix unit makes of operands and sums: math fidelity, and sums in bfloat16.

The unit multiplies 5 bits of one operand (the weights) by 7 bits of the other (the activations). LoFi is one pass, which cuts the
rest off; HiFi2 is a second pass for the weights' last bits; HiFi3 and HiFi4 add the activations' last bits. With
fp32_dest_acc_en the sums are float32; without it, each 16 products are added to a sum of 8 bits. docs/fidelity.md shows how near
this comes. The order of products within a pass is not emulated, nor what HiFi3 leaves out: the last bits of both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from fx2ttnn.emulate import rounding
from fx2ttnn.emulate.rounding import cut_bits, to_bits

PASSES = {"LoFi": 1, "HiFi2": 2, "HiFi3": 3, "HiFi4": 4}
DEPTH = 16  # products that are summed at once


@dataclass(frozen=True)
class Compute:
    """How a kernel computes: passes of the matrix unit, and whether sums are float32."""

    passes: int
    fp32: bool

    @staticmethod
    def of(config: Any, default: Compute) -> Compute:
        """That of a compute_kernel_config; `default` without one."""
        if rounding.PLAIN:
            return Compute(4, True)
        if config is None:
            return default
        return Compute(PASSES[config.math_fidelity.name], config.fp32_dest_acc_en)

    def activations(self, value: torch.Tensor) -> torch.Tensor:
        """What a product sees of its first operand (float32)."""
        return value if self.passes > 2 else cut_bits(value, 7)

    def weights(self, value: torch.Tensor) -> torch.Tensor:
        """What a product sees of its second operand (float32)."""
        return value if self.passes > 1 else cut_bits(value, 5)


def bfloat16_product(a: torch.Tensor, b: torch.Tensor, passes: int, depth: int) -> torch.Tensor:
    """a [.., m, k] x b [.., k, n], float32, without fp32_dest_acc_en: in bfloat16, block by block of `depth` along k.

    The sums of the blocks are added in bfloat16, too (packer_l1_acc), the last on top of the others' sum.
    """
    high_a, high_b = cut_bits(a, 7), cut_bits(b, 5)
    parts = [(high_a, high_b), (high_a, b - high_b), (a - high_a, high_b), (a - high_a, b - high_b)][:passes]
    inner = a.shape[-1]
    total = block = torch.zeros(*torch.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
    for at in range(0, inner, 32):
        if at and at % depth == 0:
            total = (total + block).bfloat16().float()
            block = total if at + depth >= inner else torch.zeros_like(total)
        for x, y in parts:
            for k in range(at, min(at + 32, inner), DEPTH):
                products = x[..., k : k + DEPTH] @ y[..., k : k + DEPTH, :]
                block = _add(block, products, products)
    return block


def bfloat16_times(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a x b, of one shape, one pass after the other, each added to what is there in bfloat16 (HiFi4)."""
    high_a, high_b = cut_bits(a, 5), cut_bits(b, 7)
    powers = cut_bits(a, 1) * cut_bits(b, 1)  # whose exponent a pass takes, however many of its bits are 0
    total = to_bits(high_a * high_b, 8)
    for x, y, lower in ((a - high_a, high_b, 5), (high_a, b - high_b, 7), (a - high_a, b - high_b, 12)):
        total = _add(total, x * y, powers * 2.0**-lower)
    return total


def _add(total: torch.Tensor, products: torch.Tensor, powers: torch.Tensor) -> torch.Tensor:
    """Both aligned to the larger's exponent, then 8 bits of their sum, ties away from zero. `powers`: that of the products."""
    larger = torch.maximum(total.abs(), powers.abs())
    return to_bits(to_multiples(total, larger).add_(to_multiples(products, larger, up=True)), 8)


def to_multiples(value: torch.Tensor, larger: torch.Tensor, up: bool = False) -> torch.Tensor:
    """`value` rounded to a multiple of 2 ** -10 of the exponent of `larger`, ties away from zero, or up."""
    exponent = (larger.view(torch.int32) >> 23).clamp_(11, 240)  # biased by 127; smaller numbers vanish
    steps = value * ((264 - exponent) << 23).view(torch.float32)
    steps = steps.add_(0.5).floor_() if up else steps.add_(torch.copysign(_HALF, steps)).trunc_()
    return steps.mul_(((exponent - 10) << 23).view(torch.float32))


_HALF = torch.tensor(0.5)
