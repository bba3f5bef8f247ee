"""What kind of work an operation is: decides its colour in the picture of a layer."""

from __future__ import annotations

from fx2ttnn.ir import COLLECTIVES, Op
from fx2ttnn.profile.work import MATMULS, MOVES, VIEWS, base_name

KINDS = ("matmul", "norm", "attention", "collective", "elementwise", "movement", "unsupported")
_NORMS = {"rms_norm", "layer_norm"}


def kind_of(op: Op) -> str:
    """One of `KINDS` but the last."""
    name = base_name(op)
    if name == "linear" or name in MATMULS:
        return "matmul"
    if name in _NORMS:
        return "norm"
    if name in COLLECTIVES:
        return "collective"
    if name == "attention":
        return "attention"
    if name in MOVES or name in VIEWS:
        return "movement"
    return "elementwise"
