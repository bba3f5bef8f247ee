"""What a plan adds: the exchange between chips. Of a value on the whole mesh none of them changes anything."""

from __future__ import annotations

from typing import Any

from fx2ttnn.ir import Op
from fx2ttnn.ops.table import COLLECTIVE, MOVEMENT, operation

_SAME = "x [...] -> [...]"


@operation(_SAME, "axis: int, dim: int?", kind=COLLECTIVE)
def all_gather(run: Any, op: Op, args: list[Any]) -> Any:
    """Every chip along mesh axis `axis` gets the parts of `dim` that all of them hold."""
    return args[0]


@operation(_SAME, "axis: int, dim: int?", kind=COLLECTIVE)
def all_reduce(run: Any, op: Op, args: list[Any]) -> Any:
    """Every chip along the axis gets the sum of what all of them hold."""
    return args[0]


@operation(_SAME, "axis: int, dim: int", kind=COLLECTIVE)
def reduce_scatter(run: Any, op: Op, args: list[Any]) -> Any:
    """Every chip along the axis gets its part of `dim` of the sum."""
    return args[0]


@operation(_SAME, "axis: int, dim: int", kind=COLLECTIVE)
def mesh_partition(run: Any, op: Op, args: list[Any]) -> Any:
    """Every chip along the axis keeps its part of `dim` of what all of them hold."""
    return args[0]


@operation(_SAME, kind=MOVEMENT)
def reshard(run: Any, op: Op, args: list[Any]) -> Any:
    """The same numbers in another place on the chip."""
    return args[0]
