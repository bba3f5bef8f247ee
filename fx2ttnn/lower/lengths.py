"""The prefill of several prompt lengths as one ttnn graph, whose arguments depend on the length where they must."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fx2ttnn.errors import UserError
from fx2ttnn.lower.values import Call, Lowered


@dataclass(frozen=True)
class ByLength:
    """An argument that is another one for each number of tokens: (tokens, argument) pairs."""

    values: tuple[tuple[int, Any], ...]


def merge(lowered: Mapping[int, Lowered]) -> Lowered:
    """The graph of the longest length with a `ByLength` for each argument that differs.

    Raises UserError where another length needs other calls: then one method cannot serve both.
    """
    longest = lowered[max(lowered)]
    calls = []
    for group in zip(*(found.calls for found in lowered.values()), strict=False):
        if len({(call.function, call.outputs, len(call.args), tuple(call.kwargs)) for call in group}) > 1:
            rules = ", ".join(dict.fromkeys(call.rule for call in group))
            raise UserError(
                f"{group[0].op.module}: prompts of {', '.join(map(str, lowered))} tokens need other calls ({rules})"
            )
        calls.append(_merged(dict(zip(lowered, group, strict=True))))
    if len({len(found.calls) for found in lowered.values()}) > 1:
        raise UserError(f"prompts of {', '.join(map(str, lowered))} tokens need different numbers of calls")
    return replace(longest, calls=tuple(calls))


def _merged(calls: Mapping[int, Call]) -> Call:
    last = calls[max(calls)]
    args = tuple(_argument({n: call.args[i] for n, call in calls.items()}) for i in range(len(last.args)))
    kwargs = {key: _argument({n: call.kwargs[key] for n, call in calls.items()}) for key in last.kwargs}
    return replace(last, args=args, kwargs=kwargs)


def _argument(values: Mapping[int, Any]) -> Any:
    first, *others = values.values()
    return first if all(other == first for other in others) else ByLength(tuple(values.items()))
