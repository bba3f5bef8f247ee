"""Calls that differ in operation, shapes, types, placements or arguments: each gets one op test and one row of the report."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fx2ttnn.ir import Ref
from fx2ttnn.lower.values import Call, Lowered


def signature(call: Call, lowered: Lowered) -> tuple:
    """What identifies a distinct call."""

    def plain(value: Any) -> str:
        return repr(replace(lowered.tensors[value], name="")) if isinstance(value, Ref) else repr(value)

    kwargs = tuple((k, plain(v)) for k, v in call.kwargs.items())
    return (call.function, tuple(map(plain, call.args)), kwargs)


def distinct_calls(lowered: Lowered) -> list[tuple[Call, list[Call]]]:
    """Each distinct call, with all calls that equal it, in order of first use."""
    groups: dict[tuple, list[Call]] = {}
    for call in lowered.calls:
        groups.setdefault(signature(call, lowered), []).append(call)
    return [(group[0], group) for group in groups.values()]
