"""Expressions in rule tables: a small, closed part of Python's syntax, evaluated without `eval`.

Names, attributes of operands, calls of the rule vocabulary, literals, arithmetic, comparisons, `and`/`or`/`not`, subscripts.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Mapping
from functools import cache
from typing import Any

_BINARY = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_COMPARE = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}
_ALLOWED = (
    *(ast.Expression, ast.Name, ast.Load, ast.Attribute, ast.Call, ast.Constant, ast.Tuple, ast.List, ast.Subscript),
    *(ast.BinOp, ast.UnaryOp, ast.USub, ast.Not, ast.BoolOp, ast.And, ast.Or, ast.Compare, ast.IfExp, ast.keyword),
    *_BINARY,
    *_COMPARE,
)


class ExpressionError(ValueError):
    """An expression that is not of the rule language, or cannot be evaluated."""


@cache
def parse(text: str) -> ast.expr:
    """Syntax tree of an expression; raises ExpressionError for anything outside the language."""
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError as error:
        raise ExpressionError(f"{text!r}: {error.msg}") from None
    for node in ast.walk(tree):
        if not isinstance(node, _ALLOWED):
            raise ExpressionError(f"{text!r}: {type(node).__name__} is not part of the rule language")
        if isinstance(node, ast.keyword) and node.arg is None:
            raise ExpressionError(f"{text!r}: ** is not part of the rule language")
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            raise ExpressionError(f"{text!r}: private attribute {node.attr!r}")
    return tree.body


def names(text: str) -> set[str]:
    """Free names of an expression."""
    return {node.id for node in ast.walk(parse(text)) if isinstance(node, ast.Name)}


def attributes(text: str, of: str) -> set[str]:
    """Attributes of the name `of` that an expression reads."""
    nodes = (node for node in ast.walk(parse(text)) if isinstance(node, ast.Attribute))
    return {node.attr for node in nodes if isinstance(node.value, ast.Name) and node.value.id == of}


def evaluate(text: str, scope: Mapping[str, Any]) -> Any:
    """Value of an expression; `scope` holds the operands and the vocabulary."""
    return _value(parse(text), scope)


def _value(node: ast.expr, scope: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Name(id=name):
            if name not in scope:
                raise ExpressionError(f"unknown name {name!r}")
            return scope[name]
        case ast.Attribute(value=of, attr=attr):
            found = _value(of, scope)
            if issubclass(type(found), str):  # a format string could reach private attributes
                raise ExpressionError(f"a string has no attribute {attr!r} in the rule language")
            return found[attr] if issubclass(type(found), Mapping) else getattr(found, attr)
        case ast.Subscript(value=of, slice=index):
            return _value(of, scope)[_value(index, scope)]
        case ast.Tuple(elts=items):
            return tuple(_value(i, scope) for i in items)
        case ast.List(elts=items):
            return [_value(i, scope) for i in items]
        case ast.Call(func=function, args=args, keywords=keywords):
            call = _value(function, scope)
            return call(*(_value(a, scope) for a in args), **{k.arg: _value(k.value, scope) for k in keywords if k.arg})
        case ast.BinOp(left=left, op=op, right=right):
            return _BINARY[type(op)](_value(left, scope), _value(right, scope))
        case ast.UnaryOp(op=op, operand=of):
            found = _value(of, scope)
            return -found if isinstance(op, ast.USub) else not found
        case ast.BoolOp(op=op, values=values):
            return (
                all(_value(v, scope) for v in values)
                if isinstance(op, ast.And)
                else any(_value(v, scope) for v in values)
            )
        case ast.IfExp(test=test, body=body, orelse=orelse):
            return _value(body if _value(test, scope) else orelse, scope)
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            here = _value(left, scope)
            for comparison, right in zip(ops, comparators, strict=True):
                there = _value(right, scope)
                if not _COMPARE[type(comparison)](here, there):
                    return False
                here = there
            return True
    raise ExpressionError(f"{ast.unparse(node)} is not part of the rule language")
