"""Operations on single numbers."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from fx2ttnn.emulate import rounding
from fx2ttnn.emulate.chips import align, own_dim
from fx2ttnn.emulate.matrix_unit import bfloat16_times, to_multiples
from fx2ttnn.emulate.registry import emulates
from fx2ttnn.emulate.rounding import pack, to_bits
from fx2ttnn.emulate.tensor import EmulationError, Numbers

Unary = Callable[[torch.Tensor], torch.Tensor]

_OF_TORCH = (
    "abs ceil cos erf exp exp2 expm1 floor isfinite isinf isnan log log10 log1p log2 neg reciprocal relu rsqrt sigmoid "
    "sign sin sqrt square tan tanh trunc"
)
UNARY: dict[str, Unary] = {
    **{name: getattr(torch, name) for name in _OF_TORCH.split()},
    **{name: getattr(functional, name) for name in ["hardsigmoid", "hardswish", "mish", "relu6", "silu", "softsign"]},
    **{name: lambda x: x == 0 for name in ("eqz", "logical_not")},
    "nez": lambda x: x != 0,
    "gtz": lambda x: x > 0,
    "gez": lambda x: x >= 0,
    "ltz": lambda x: x < 0,
    "lez": lambda x: x <= 0,
}

BINARY: dict[str, Callable[[Any, Any], torch.Tensor]] = {
    **{name: getattr(operator, name) for name in ["eq", "ne", "gt", "ge", "lt", "le", "pow"]},
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "div": operator.truediv,
    "rsub": lambda a, b: b - a,
    "rdiv": lambda a, b: b / a,
    "logical_and": lambda a, b: (a != 0) & (b != 0),
    "logical_or": lambda a, b: (a != 0) | (b != 0),
    "bitwise_and": operator.and_,
    "bitwise_or": operator.or_,
    "maximum": lambda a, b: torch.maximum(a, torch.as_tensor(b, dtype=a.dtype)),
    "minimum": lambda a, b: torch.minimum(a, torch.as_tensor(b, dtype=a.dtype)),
    "floor_div": lambda a, b: torch.floor(a / b),
    "remainder": torch.remainder,
}

_SIXTEEN_BITS = {"BFLOAT16", "BFLOAT8_B", "BFLOAT4_B"}

# The names that ttnn's own activation types and strings have beyond those of its operations.
_ACTIVATIONS: dict[str, Unary] = {
    **UNARY,
    "gelu": functional.gelu,
    **{name: lambda x: functional.gelu(x, approximate="tanh") for name in ("gelu_approx", "gelu_tanh")},
    "recip": torch.reciprocal,
    "swish": functional.silu,
    "softplus": functional.softplus,
}


def activate(x: torch.Tensor, activation: Any) -> torch.Tensor:
    """`activation`: None, a string, a ttnn.UnaryOpType or a ttnn.UnaryWithParam."""
    if activation is None or activation == "":
        return x
    kind = getattr(activation, "op_type", activation)
    name = kind if isinstance(kind, str) else kind.name.lower()
    parameters = list(getattr(activation, "params", []))
    # GELU's one parameter chooses a faster approximation of the same function.
    if name not in _ACTIVATIONS or (parameters and name not in ("gelu", "exp", "rsqrt", "sqrt", "sigmoid")):
        raise EmulationError(
            f"the activation {activation} has no emulation: add it to fx2ttnn/emulate/ops/elementwise.py"
        )
    return _ACTIVATIONS[name](x)


def _all(x: Any, activations: Any) -> Any:
    for activation in activations or []:
        x = activate(x, activation)
    return x


def _unary(function: Unary) -> Callable[..., torch.Tensor]:
    return lambda input_tensor: of_vector_unit(function(as_float(input_tensor)), {input_tensor.dtype})


def _binary(name: str) -> Callable[..., torch.Tensor]:
    def emulation(
        input_tensor_a: Any = None,
        input_tensor_b: Any = None,
        *,
        input_tensor: Any = None,
        exponent: Any = None,
        input_b: Any = None,
        value: Any = None,
        rounding_mode: str | None = None,
        activations: Any = None,
        input_tensor_a_activations: Any = None,
        input_tensor_b_activations: Any = None,
    ) -> torch.Tensor:
        first = input_tensor if input_tensor_a is None else input_tensor_a
        second = next(x for x in (input_tensor_b, exponent, input_b, value) if x is not None)
        a, b = align(*(as_float(x) if isinstance(x, Numbers) else x for x in (first, second)))
        a = _activated(a, input_tensor_a_activations, first)
        b = _activated(b, input_tensor_b_activations, second)
        out = as_kernels_do(name, a, b, {x.dtype for x in (first, second) if isinstance(x, Numbers)})
        out = {None: out, "floor": torch.floor(out), "trunc": torch.trunc(out)}[rounding_mode] if rounding_mode else out
        return _all(out, activations)

    return emulation


def as_float(x: Numbers) -> torch.Tensor:
    """The numbers as float32; integers as they are."""
    return x.value.float() if x.value.is_floating_point() else x.value


def _activated(x: Any, activations: Any, operand: Any) -> Any:
    """`x`, the numbers of `operand`, behind its activations: the kernel packs them in the operand's own type."""
    if not activations or rounding.PLAIN or not isinstance(operand, Numbers):
        return _all(x, activations)
    return pack(of_vector_unit(_all(x, activations), {operand.dtype}), operand.dtype).float()


def of_vector_unit(x: torch.Tensor, dtypes: set[str]) -> torch.Tensor:
    """What the vector unit leaves of a result: bfloat16 where no operand is wider."""
    return to_bits(x, 8) if x.dtype == torch.float32 and dtypes <= _SIXTEEN_BITS and not rounding.PLAIN else x


def as_kernels_do(name: str, a: Any, b: Any, dtypes: set[str]) -> torch.Tensor:
    """Sums, differences and products of 16 bits and fewer as the kernels make them; all else as torch does.

    The matrix unit adds what it has aligned to 11 bits, and multiplies a bfloat8_b operand in two passes, each rounded to
    bfloat16. The product of two bfloat16 tensors is the vector unit's, which rounds to even.
    """
    if rounding.PLAIN or name not in ("add", "subtract", "multiply") or not dtypes <= _SIXTEEN_BITS:
        return BINARY[name](a, b)
    a, b = (x if isinstance(x, torch.Tensor) else torch.tensor(float(x)).bfloat16().float() for x in (a, b))
    if name == "multiply" and dtypes == {"BFLOAT16"}:
        return (a * b).bfloat16().float()
    if name == "multiply":
        a, b = torch.broadcast_tensors(a, b)
        return bfloat16_times(a, b)
    larger = torch.maximum(a.abs(), b.abs())
    first, second = to_multiples(a, larger), to_multiples(b, larger)
    return to_bits(first + second if name == "add" else first - second, 8)


for _name, _function in UNARY.items():
    emulates(f"ttnn.{_name}", raw=True)(_unary(_function))
for _name in BINARY:
    emulates(f"ttnn.{_name}", raw=True)(_binary(_name))
for _name, _of in {"add_": "add", "subtract_": "subtract", "multiply_": "multiply", "divide_": "div"}.items():
    emulates(f"ttnn.{_name}", raw=True, inplace=("input_tensor_a",))(_binary(_of))


@emulates("ttnn.gelu")
def gelu(input_tensor: torch.Tensor, variant: Any = None) -> torch.Tensor:
    """All variants approximate the same function on the chip, except the one named after tanh."""
    tanh = variant is not None and "tanh" in variant.name.lower()
    return functional.gelu(input_tensor, approximate="tanh" if tanh else "none")


@emulates("ttnn.softplus")
def softplus(input_tensor: torch.Tensor, beta: float = 1.0, threshold: float = 20.0) -> torch.Tensor:
    return functional.softplus(input_tensor, beta, threshold)


@emulates("ttnn.clip", "ttnn.clamp")
def clip(input_tensor: torch.Tensor, min: Any = None, max: Any = None) -> torch.Tensor:
    return torch.clamp(input_tensor, min, max)


@emulates("ttnn.where")
def where(predicate: torch.Tensor, true_value: Any, false_value: Any) -> torch.Tensor:
    predicate, a, b = align(predicate, true_value, false_value)
    return torch.where(predicate != 0, a, b)


@emulates("ttnn.addcmul")
def addcmul(input_a: torch.Tensor, input_b: torch.Tensor, input_c: torch.Tensor, value: float = 1.0) -> torch.Tensor:
    a, b, c = align(input_a, input_b, input_c)
    return a + value * b * c


@emulates("ttnn.addcdiv")
def addcdiv(input_a: torch.Tensor, input_b: torch.Tensor, input_c: torch.Tensor, value: float = 1.0) -> torch.Tensor:
    a, b, c = align(input_a, input_b, input_c)
    return a + value * b / c


@emulates("ttnn.plus_one", inplace=("input_tensor",))
def plus_one(
    input_tensor: torch.Tensor, sub_core_grids: Any = None, skip_negative_entries: bool = False
) -> torch.Tensor:
    if not skip_negative_entries:
        return input_tensor + 1
    return input_tensor + ((input_tensor >= 0) & (input_tensor < 2**31 - 1))


@emulates("ttnn.swiglu")
def swiglu(input_tensor: torch.Tensor, dim: int = -1) -> torch.Tensor:
    a, gate = input_tensor.chunk(2, dim=-1)
    return a * functional.silu(gate)


@emulates("ttnn.leaky_relu")
def leaky_relu(input_tensor: torch.Tensor, negative_slope: float = 0.01) -> torch.Tensor:
    return functional.leaky_relu(input_tensor, negative_slope)


@emulates("ttnn.cumsum")
def cumsum(input: torch.Tensor, dim: int) -> torch.Tensor:
    return input.cumsum(own_dim(input, dim))
