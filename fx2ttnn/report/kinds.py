"""What kind of work an operation is: decides its colour in the picture of a layer."""

from __future__ import annotations

from fx2ttnn import ops
from fx2ttnn.graph.aten import base_name
from fx2ttnn.ir import Op
from fx2ttnn.ops.table import ELEMENTWISE, MATMUL, MOVEMENT
from fx2ttnn.profile.work import MATMULS, VIEWS

KINDS = (*ops.KINDS, "unsupported")


def kind_of(op: Op) -> str:
    """One of `KINDS` but the last."""
    if op.name in ops.TABLE:
        return ops.TABLE[op.name].kind
    name = base_name(op)
    return MATMUL if name in MATMULS else MOVEMENT if name in VIEWS else ELEMENTWISE
