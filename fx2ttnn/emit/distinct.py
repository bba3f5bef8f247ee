"""Calls that differ in operation, shapes, types, placements or arguments: each gets one op test and one row of the report."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from fx2ttnn.ir import Ref
from fx2ttnn.lower.values import Call, Lowered

Located = tuple[Lowered, Call]  # a call and the graph it is in


def signature(lowered: Lowered, call: Call) -> tuple:
    """What identifies a distinct call."""

    def plain(value: Any) -> str:
        if isinstance(value, tuple):
            return repr(list(map(plain, value)))
        return repr(replace(lowered.tensors[value], name="")) if isinstance(value, Ref) else repr(value)

    kwargs = tuple((k, plain(v)) for k, v in call.kwargs.items())
    return (call.function, tuple(map(plain, call.args)), kwargs)


def distinct_calls(calls: Iterable[Located]) -> list[tuple[Located, list[Call]]]:
    """Each distinct call, with all calls that equal it, in order of first use."""
    groups: dict[tuple, list[Located]] = {}
    for lowered, call in calls:
        groups.setdefault(signature(lowered, call), []).append((lowered, call))
    return [(group[0], [call for _, call in group]) for group in groups.values()]
