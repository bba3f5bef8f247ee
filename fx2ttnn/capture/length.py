"""How much a cache holds is not known when a model is traced; a model may ask, and may use the answer only where it says nothing.

Given position_ids, models need the length for the default of a mask of ones (no padding), to hand it on, and to count the step's tokens
on from it, which gives their positions. Any other use, such as a comparison, a slice or other arithmetic with tensors, would put one
length into the graph of all: it raises CaptureError.
"""

from __future__ import annotations

from typing import Any, NoReturn

import torch
from torch.overrides import TorchFunctionMode

from fx2ttnn.capture.known import holds
from fx2ttnn.errors import CaptureError


def _refuse(self: Any, *_: Any, **__: Any) -> NoReturn:
    raise CaptureError(
        "the model computes with the length of its cache (`get_seq_length`), which differs from step to step"
    )


class Length:
    """The number of tokens in the cache, before a step of tokens at `positions` [B, S]; without these, a sum with it."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, positions: torch.Tensor | None = None) -> None:
        self._positions = positions

    def __add__(self, other: Any) -> Any:
        if isinstance(other, int | Length):
            return Length()
        positions = self._positions
        counted = isinstance(other, torch.Tensor) and positions is not None and holds(other, range(positions.shape[1]))
        return torch.ops.fx2ttnn.own_positions(positions) if counted else _refuse(self)

    __radd__ = __add__
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse  # type: ignore[assignment]
    __bool__ = __int__ = __index__ = __float__ = __str__ = __repr__ = __format__ = _refuse  # type: ignore[assignment]
    __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __floordiv__ = __mod__ = __neg__ = _refuse


class NoPadding:
    """A mask [B, length] of ones: every token counts."""

    ndim = 2

    def to(self, *_: Any, **__: Any) -> NoPadding:
        return self

    __getattr__ = __getitem__ = __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __bool__ = _refuse


class Unknown(TorchFunctionMode):
    """While it is active, `torch.ones` of a `Length` is a `NoPadding`, and a tensor may be added to one; any other function of torch refuses one."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        added = getattr(function, "__name__", "").strip("_") == "add" and len(args) == 2 and not kwargs
        if added and isinstance(args[1], Length):
            return args[1] + args[0]
        if any(isinstance(a, Length | NoPadding) for a in _flat((*args, *(kwargs or {}).values()))):
            return NoPadding() if function is torch.ones and len(_flat(args)) == 2 else _refuse(self)
        return function(*args, **(kwargs or {}))


def _flat(args: tuple[Any, ...]) -> list[Any]:
    return [a for arg in args for a in (_flat(tuple(arg)) if isinstance(arg, list | tuple) else [arg])]
