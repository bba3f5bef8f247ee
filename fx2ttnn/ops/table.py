"""The table of operations: what an op of a recognised or planned graph is, said once, for all stages that read graphs.

An entry is written as a decorated function that computes the op. Its signature names operands with their dims, and results:

    x [B S K], weight [_ _]+, bias [_]+? -> [B S N]

A dim's name stands for one size within the op, `_` for any, `...` for any dims before the others. `#`: whole numbers; `?`: may be left out;
`+`: one value, or a tuple of values in its place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from fx2ttnn.ir import Graph, Op, Ref

MATMUL, NORM, ATTENTION, COLLECTIVE, ELEMENTWISE, MOVEMENT = KINDS = (
    "matmul", "norm", "attention", "collective", "elementwise", "movement",
)  # fmt: skip

Entry = str | int  # of a placement: "R", "P" or a dim
Dims = tuple[str, ...]


@dataclass(frozen=True)
class Strategy:
    """A way to run an op split over one mesh axis: how each of `op.inputs` must lie, and how each output then lies."""

    inputs: tuple[Entry, ...]
    outputs: tuple[Entry, ...]


class Sizes(Protocol):
    """What FLOPs are counted from: shapes of values, on the whole mesh or on one chip."""

    def shape(self, value: str) -> tuple[int, ...]: ...
    def numel(self, value: str) -> int: ...
    def used(self, rows: int) -> int:
        """How many of so many rows belong to users that are there."""
        ...

    def context(self, op: Op) -> int:
        """Positions that an attention reads."""
        ...


# The Run of graph/interpret.py, the op, its arguments -> a tensor, or one per output.
Compute = Callable[[Any, Op, list[Any]], Any]
Split = Callable[[Graph, Op], list[Strategy]]
Flops = Callable[[Sizes, Op], int]


@dataclass(frozen=True)
class Operand:
    """An argument or a result, and its dims."""

    name: str
    dims: Dims
    integers: bool = False
    optional: bool = False
    several: bool = False


@dataclass(frozen=True)
class Attribute:
    """A named constant of an op, by the types that it may have."""

    types: tuple[type, ...]
    optional: bool = False


@dataclass(frozen=True)
class Operation:
    """An entry of the table. `earlier`: attributes of forms that recognise does away with."""

    name: str
    operands: tuple[Operand, ...]
    results: tuple[Operand, ...]
    attributes: Mapping[str, Attribute]
    earlier: Mapping[str, Attribute]
    kind: str  # of KINDS
    compute: Compute
    split: Split
    flops: Flops
    pointwise: bool  # each element of the results depends on that element of the operands only
    row_by_row: bool  # each token's results depend on that token's operands only
    keeps_heads: bool  # what it computes of a head depends on that head only
    tokens_second: bool  # a result of four dims is [B, S, H, D]; else [B, H, S, D]
    planned: bool  # may stand in a plan; else recognise leaves it only where it must, and a report says so


TABLE: dict[str, Operation] = {}


def names_where(holds: Callable[[Operation], bool]) -> frozenset[str]:
    """Names of the operations of which that holds."""
    return frozenset(name for name, entry in TABLE.items() if holds(entry))


def elementwise_flops(sizes: Sizes, op: Op) -> int:
    """One for each element of the largest operand or result."""
    return max(sizes.numel(value) for value in (*op.inputs, *op.outputs))


def per_element(flops: int) -> Flops:
    """So many FLOPs for each element of the first result."""
    return lambda sizes, op: flops * sizes.numel(op.outputs[0])


def whole(graph: Graph, op: Op) -> list[Strategy]:
    """No way to split it."""
    return []


def operation(
    signature: str,
    attributes: str = "",
    *,
    kind: str = ELEMENTWISE,
    split: Split = whole,
    flops: Flops | None = None,
    earlier: str = "",
    pointwise: bool = False,
    row_by_row: bool = False,
    keeps_heads: bool = False,
    tokens_second: bool = False,
    planned: bool = True,
) -> Callable[[Compute], Compute]:
    """Enter the decorated function's op, of its name, into the table; what only moves numbers has no FLOPs."""

    def enter(compute: Compute) -> Compute:
        given, _, made = signature.partition(" -> ")
        name = compute.__name__
        moves = kind in (MOVEMENT, COLLECTIVE)
        TABLE[name] = Operation(
            name,
            _operands(given),
            _operands(made),
            _attributes(attributes),
            _attributes(earlier),
            kind,
            compute,
            split,
            flops or (per_element(0) if moves else elementwise_flops),
            pointwise,
            row_by_row or pointwise,
            keeps_heads,
            tokens_second,
            planned,
        )
        return compute

    return enter


_OPERAND = re.compile(r"(\w*)(#?)\s*\[([^\]]*)\]([+?]*)")
_TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (float, int),
    "str": (str,),
    "bool": (bool,),
    "tuple": (tuple,),
    "value": (Ref,),
    "graph": (Graph,),
}


def _operands(text: str) -> tuple[Operand, ...]:
    found = []
    for name, integers, dims, marks in _OPERAND.findall(text):
        found.append(Operand(name, tuple(dims.split()), bool(integers), "?" in marks, "+" in marks))
    return tuple(found)


def _attributes(text: str) -> dict[str, Attribute]:
    found = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, _, kind = item.partition(": ")
        found[name] = Attribute(_TYPES[kind.rstrip("?")], kind.endswith("?"))
    return found
