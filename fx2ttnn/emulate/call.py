"""One call of a ttnn operation: computes its numbers, checks them against what ttnn says, and stores them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from fx2ttnn.emulate.registry import NO_EFFECT, Emulation
from fx2ttnn.emulate.rounding import pack, round_to
from fx2ttnn.emulate.tensor import EmulatedTensor, EmulationError, Numbers

OUTPUTS = (
    "output_tensor",
    "optional_output_tensor",
    "preallocated_output",
    "optional_tensor",
    "persistent_output_buffer",
    "persistent_output_tensor",
    "out",
    "output_tensors",
)


@dataclass(frozen=True)
class Call:
    """A call with `Numbers` in place of tensors. `real`: the TensorSpec(s) that ttnn returned; `outs`: where results go.

    It can run again and again: a trace is a list of calls.
    """

    name: str
    emulation: Emulation
    args: tuple
    known: dict[str, Any]
    real: Any
    outs: tuple[Numbers, ...]
    overwrites: bool

    @staticmethod
    def of(name: str, emulation: Emulation, real: Any, args: tuple, kwargs: dict[str, Any]) -> tuple[Call, Any]:
        """The call whose real operation returned `real`, and the emulated tensor(s) to return."""
        reals = [] if real is None else list(real) if isinstance(real, (list, tuple)) else [real]
        targets = _targets(emulation, args, kwargs)
        tensors = targets or [EmulatedTensor(r, Numbers(r)) for r in reals]
        call = Call(
            name,
            emulation,
            map_leaves(args, _numbers),
            map_leaves(_known_arguments(name, emulation, kwargs), _numbers),
            type(real)(r.spec for r in reals) if isinstance(real, (list, tuple)) else reals[0].spec if reals else None,
            tuple(t.numbers for t in tensors),
            bool(targets),
        )
        if real is None:
            return call, None
        return call, type(real)(tensors) if isinstance(real, (list, tuple)) else tensors[0]

    def numbers(self) -> Iterator[Numbers]:
        """Of all tensors that it reads or writes."""
        yield from leaves((self.args, self.known), Numbers)
        yield from self.outs

    def run(self) -> None:
        """Compute from the numbers that the arguments hold now."""
        known = self.known | ({"real": self.real} if "real" in self.emulation.parameters else {})
        convert = _as_is if self.emulation.raw else _stored if self.emulation.moves else _float32
        try:
            result = self.emulation.function(*map_leaves(self.args, convert), **map_leaves(known, convert))
        except EmulationError:
            raise
        except Exception as error:
            raise EmulationError(f"the emulation of {self.name} failed: {type(error).__name__}: {error}") from error
        if result is None:  # it has changed its arguments in place
            return
        results = list(result) if isinstance(result, (list, tuple)) else [result]
        if len(results) != len(self.outs):
            raise EmulationError(f"{self.name}: ttnn returns {len(self.outs)} tensors, the emulation {len(results)}")
        for out, value in zip(self.outs, results, strict=True):
            self._store(out, value)

    def _store(self, out: Numbers, value: torch.Tensor) -> None:
        """Round `value` to the data type of `out`, and store it there; an error when their shapes differ."""
        if tuple(value.shape[2:]) != tuple(out.spec.shape):
            raise EmulationError(
                f"{self.name}: ttnn says each chip's result has the shape {tuple(out.spec.shape)}, the emulation "
                f"{tuple(value.shape[2:])}"
            )
        sources = list(leaves((self.args, self.known), Numbers))
        if not (self.emulation.moves and all(s.dtype == out.dtype for s in sources[:1])):
            value = self._rounded(value, out.dtype)
        shared = [] if self.overwrites else [s for s in sources if s.shares_memory(value)]
        if not shared:
            out.store(value, copy=self.overwrites)
            return
        # Two buffers on the chip, one in the emulator: the next change in place copies. A view stays a view.
        owned, view_of = True, next((s for s in shared if s.shares_buffer(out)), None)
        for source in shared:
            owned = source.owned = source.owned and source.shares_buffer(out)
        out.share(value, owned, view_of)

    def _rounded(self, value: torch.Tensor, dtype: str) -> torch.Tensor:
        if self.emulation.host:
            return round_to(value, dtype)
        if self.name.endswith("typecast"):  # the vector unit rounds to bfloat16, to even; bfloat8_b is packed precisely
            value = value.bfloat16() if dtype == "BFLOAT16" else value
            return pack(value, dtype, precise=dtype == "BFLOAT8_B")
        return pack(value, dtype)


def map_leaves(tree: Any, change: Callable[[Any], Any]) -> Any:
    """`tree` of lists, tuples and dicts with `change` applied to what they hold."""
    if type(tree) in (list, tuple):
        return type(tree)(map_leaves(x, change) for x in tree)
    if type(tree) is dict:
        return {k: map_leaves(v, change) for k, v in tree.items()}
    return change(tree)


def leaves(tree: Any, kind: type | tuple[type, ...]) -> Iterator[Any]:
    """All things of a kind in a tree of lists, tuples and dicts."""
    if isinstance(tree, kind):
        yield tree
    elif type(tree) in (list, tuple):
        for item in tree:
            yield from leaves(item, kind)
    elif type(tree) is dict:
        yield from leaves(list(tree.values()), kind)


def _targets(emulation: Emulation, args: tuple, kwargs: dict[str, Any]) -> list[EmulatedTensor]:
    """The tensors that exist already and are written by the call."""
    if emulation.inplace:
        names = list(emulation.parameters)
        return [kwargs[n] if n in kwargs else args[names.index(n)] for n in emulation.inplace]
    given: Any = next((kwargs[k] for k in OUTPUTS if kwargs.get(k) is not None), [])
    return list(given) if isinstance(given, Sequence) else [given]


def _known_arguments(name: str, emulation: Emulation, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments that the emulation takes; an error for any other that changes numbers."""
    known = {}
    for key, value in kwargs.items():
        if key in emulation.parameters or emulation.open_ended:
            known[key] = value
        elif key not in NO_EFFECT and key not in OUTPUTS and not (value is None or value is False or value == []):
            raise EmulationError(f"the argument {key} of {name} has no emulation: add it in fx2ttnn/emulate/ops/")
    return known


def _numbers(leaf: Any) -> Any:
    return leaf.numbers if isinstance(leaf, EmulatedTensor) else leaf


def _as_is(leaf: Any) -> Any:
    return leaf


def _stored(leaf: Any) -> Any:
    return leaf.value if isinstance(leaf, Numbers) else leaf


def _float32(leaf: Any) -> Any:
    if not isinstance(leaf, Numbers):
        return leaf
    return leaf.value.float() if leaf.value.is_floating_point() else leaf.value
