"""The dialect: every operation that a recognised or planned graph may hold, one entry each (table.py)."""

from fx2ttnn.ops import (  # noqa: F401 (each enters its operations)
    attention,
    collectives,
    elementwise,
    heads,
    linear,
    norms,
    positions,
    routing,
    sampling,
    tokens,
)
from fx2ttnn.ops.table import COLLECTIVE, KINDS, NORM, TABLE, Attribute, Operand, Operation, Strategy, names_where

COLLECTIVES = names_where(lambda entry: entry.kind == COLLECTIVE)
NORMS = names_where(lambda entry: entry.kind == NORM)
POINTWISE = names_where(lambda entry: entry.pointwise)
ROW_BY_ROW = names_where(lambda entry: entry.row_by_row)
KEEPS_HEADS = names_where(lambda entry: entry.keeps_heads)
TOKENS_SECOND = names_where(lambda entry: entry.tokens_second)
MOVES = COLLECTIVES | {"reshard"}  # change where a value lies, not the value

__all__ = [
    "COLLECTIVES",
    "KEEPS_HEADS",
    "KINDS",
    "MOVES",
    "NORMS",
    "POINTWISE",
    "ROW_BY_ROW",
    "TABLE",
    "TOKENS_SECOND",
    "Attribute",
    "Operand",
    "Operation",
    "Strategy",
]
