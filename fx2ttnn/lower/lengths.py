"""The prefill of several prompt lengths as one ttnn graph, whose arguments depend on the length where they must."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fx2ttnn.lower.values import Call, Lowered


@dataclass(frozen=True)
class ByLength:
    """An argument that is another one for each number of tokens: (tokens, argument) pairs."""

    values: tuple[tuple[int, Any], ...]


def merge(lowered: Mapping[int, Lowered]) -> Lowered:
    """The graph of the longest length with a `ByLength` for each argument that differs; all must be `alike`."""
    longest = lowered[max(lowered)]
    groups = zip(*(found.calls for found in lowered.values()), strict=True)
    return replace(longest, calls=tuple(_merged(dict(zip(lowered, group, strict=True))) for group in groups))


def alike(one: Lowered, other: Lowered) -> bool:
    """Whether one method can serve both: the same calls, of tensors that lie on the mesh alike."""
    return _structure(one) == _structure(other)


def _structure(lowered: Lowered) -> tuple[Any, ...]:
    calls = [(call.function, call.outputs, len(call.args), tuple(call.kwargs)) for call in lowered.calls]
    return calls, {name: tensor.axes for name, tensor in lowered.tensors.items()}, lowered.inputs


def _merged(calls: Mapping[int, Call]) -> Call:
    last = calls[max(calls)]
    args = tuple(_argument({n: call.args[i] for n, call in calls.items()}) for i in range(len(last.args)))
    kwargs = {key: _argument({n: call.kwargs[key] for n, call in calls.items()}) for key in last.kwargs}
    return replace(last, args=args, kwargs=kwargs)


def _argument(values: Mapping[int, Any]) -> Any:
    first, *others = values.values()
    return first if all(other == first for other in others) else ByLength(tuple(values.items()))
