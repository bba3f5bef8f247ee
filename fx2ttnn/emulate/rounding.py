"""Rounding to the device's data types: as ttnn's own host conversion rounds, and as the chip's packers do.

The host rounds ties to even. A packer rounds ties away from zero, and what it stores as block floats it first rounds to seven bits,
then again to the shared exponent, unless the kernel asks for the precise mode. docs/fidelity.md shows that it is so.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial

import torch

# For comparison only: "plain" computes in float32 and rounds once, to even, as if operations ran on the host.
PLAIN = os.environ.get("FX2TTNN_EMULATOR_NUMBERS") == "plain"

BLOCK = 16  # consecutive elements of a row that share one exponent in bfloat8_b and bfloat4_b
_MANTISSA_BITS = {"BFLOAT8_B": 7, "BFLOAT4_B": 3}
_STORED_AS = {
    "BFLOAT16": torch.bfloat16,
    "BFLOAT8_B": torch.bfloat16,  # 7 bits of mantissa fit into bfloat16 exactly
    "BFLOAT4_B": torch.bfloat16,
    "FLOAT32": torch.float32,
    "INT32": torch.int32,
    "UINT32": torch.int64,  # torch computes little on unsigned numbers
    "UINT16": torch.int32,
    "UINT8": torch.int32,
}
_CHUNK = 1 << 18  # elements that are rounded at once: their float32 copies stay in the CPU's cache
_SMALLEST = torch.finfo(torch.float32).tiny  # smaller numbers, the denormals, count as zero
_TINY = 2.0**-100
_HALF = torch.tensor(0.5)


def stored_dtype(dtype_name: str) -> torch.dtype:
    """The torch type that holds values of the ttnn type called `dtype_name` exactly."""
    if dtype_name not in _STORED_AS:
        raise TypeError(f"values of type {dtype_name} have no emulation: add it to fx2ttnn/emulate/rounding.py")
    return _STORED_AS[dtype_name]


def round_to(value: torch.Tensor, dtype_name: str) -> torch.Tensor:
    """`value` [..., w] rounded to the ttnn type called `dtype_name`, in the torch type that stores it.

    Block floats share an exponent along the last dim only, so a split of the other dims changes nothing.
    """
    stored = stored_dtype(dtype_name)
    if dtype_name in _MANTISSA_BITS:
        return _by_rows(value, partial(_round_rows, bits=_MANTISSA_BITS[dtype_name]))
    if dtype_name == "UINT32":  # negative numbers wrap, as on the device
        return value.to(torch.int64) % (1 << 32)
    return value.to(stored)


def pack(value: torch.Tensor, dtype_name: str, precise: bool = False) -> torch.Tensor:
    """`value` [..., w] as a packer stores it in the ttnn type called `dtype_name`. `precise`: block floats are rounded once."""
    if PLAIN or not value.is_floating_point():
        return round_to(value, dtype_name)
    if dtype_name in _MANTISSA_BITS:
        return _by_rows(value, partial(_pack_rows, bits=_MANTISSA_BITS[dtype_name], precise=precise))
    if dtype_name == "BFLOAT16" and value.dtype == torch.float32:
        return to_bits(value, 8).bfloat16()
    return round_to(value, dtype_name)


def to_bits(value: torch.Tensor, bits: int) -> torch.Tensor:
    """float32 `value` with `bits` significant bits, ties away from zero."""
    dropped = 24 - bits
    whole = value.contiguous().view(torch.int32)
    rounded = (whole + (1 << (dropped - 1))).bitwise_and_(-1 << dropped).view(torch.float32)
    if not value.sum().isnan():  # a sum is the fastest way to look
        return rounded
    return torch.where(value.isnan(), value, rounded)  # whose bits may all be ones: one more would be 0


def cut_bits(value: torch.Tensor, bits: int) -> torch.Tensor:
    """float32 `value` with its first `bits` significant bits."""
    return value.contiguous().view(torch.int32).bitwise_and(-1 << (24 - bits)).view(torch.float32)


def _by_rows(value: torch.Tensor, round_rows: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Block floats of `value`, piece by piece."""
    out = torch.empty(value.shape, dtype=torch.bfloat16)

    def fill(source: torch.Tensor, target: torch.Tensor) -> None:
        if source.dim() > 2 and source.numel() > _CHUNK:  # flattened as a whole it might be copied
            step = max(1, _CHUNK * len(source) // source.numel())
            for pair in zip(source.split(step), target.split(step), strict=True):
                fill(*(part[0] if step == 1 else part for part in pair))
            return
        rows, step = source.reshape(-1, source.shape[-1]), max(1, _CHUNK // max(1, source.shape[-1]))
        for piece, place in zip(rows.split(step), target.view(rows.shape).split(step), strict=True):
            place.copy_(round_rows(piece))

    if value.numel():
        fill(value, out)
    return out


def _round_rows(value: torch.Tensor, bits: int) -> torch.Tensor:
    """Block float of `value` [n, w] as float32: `bits` bits of magnitude below the largest of 16 neighbours."""
    width = value.shape[-1]
    padded = torch.nn.functional.pad(value.float(), (0, -width % BLOCK)) if width % BLOCK else value.float()
    blocks = padded.unflatten(-1, (-1, BLOCK))
    largest = torch.maximum(blocks.amax(-1, keepdim=True), -blocks.amin(-1, keepdim=True))
    tiny = (largest < _TINY) & (largest >= _SMALLEST)
    if tiny.any():  # too near to the denormals to scale; rounded as bigger numbers
        raised = torch.where(tiny & (blocks.abs() >= _SMALLEST), blocks * 2.0**64, 0).flatten(-2)
        lowered = _round_rows(raised, bits).unflatten(-1, (-1, BLOCK)) * 2.0**-64
        blocks = blocks.masked_fill(tiny, 0)
    exponent = (largest.view(torch.int32) >> 23).clamp_(min=24)  # biased by 127, as float32 holds it
    steps = blocks * ((253 + bits - exponent) << 23).view(torch.float32)  # one step is 2 ** (exponent - 126 - bits)
    if value.dtype == torch.float32:
        # ttnn shifts a 24-bit mantissa to the shared exponent before it rounds to nearest even: lower bits are lost.
        grid = float(1 << (24 - bits))
        steps.mul_(grid).trunc_().mul_(1 / grid)
    limit = float((1 << bits) - 1)
    steps.round_().clamp_(-limit, limit).mul_(((exponent + 1 - bits) << 23).view(torch.float32))
    if tiny.any():
        steps = torch.where(tiny, lowered, steps)
    return steps.flatten(-2)[..., :width]


def _pack_rows(value: torch.Tensor, bits: int, precise: bool) -> torch.Tensor:
    """Block float of `value` [n, w] as float32, as a packer makes it; what it cannot hold (below 2 ** -110) is 0."""
    width = value.shape[-1]
    padded = torch.nn.functional.pad(value.float(), (0, -width % BLOCK)) if width % BLOCK else value.float()
    blocks = (cut_bits(padded, 8) if precise else to_bits(padded, 7)).unflatten(-1, (-1, BLOCK))
    largest = torch.maximum(blocks.amax(-1, keepdim=True), -blocks.amin(-1, keepdim=True))
    exponent = ((largest.view(torch.int32) >> 23) & 255).clamp_(min=24)
    steps = blocks * ((260 - exponent) << 23).view(torch.float32)  # one step is 2 ** (exponent - 133): 7 bits
    steps.add_(torch.copysign(_HALF, steps)).trunc_().clamp_(-127, 127)
    if bits < 7:  # seven bits first, of which the last are cut off
        steps.mul_(2.0 ** (bits - 7)).trunc_().mul_(2.0 ** (7 - bits))
    return steps.mul_(((exponent - 6) << 23).view(torch.float32)).flatten(-2)[..., :width]
