"""A pattern is an expression over captured ops; matching it binds its variables.

`A.mul(x, A.rsqrt(y))` builds a pattern; `var("x")` binds a value, `const("eps")` a constant, `A.gelu(x, approximate="tanh")` asks
for a named argument or attribute, `either(p, q)` takes the first that fits. Operands of commutative ops match in either order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fx2ttnn.ir import Op, Ref

COMMUTATIVE = {"add", "mul", "maximum", "minimum"}
Bindings = dict[str, Any]
_SAME = {"reshape": "view", "_unsafe_view": "view", "concat": "cat", "concatenate": "cat"}


@dataclass(frozen=True)
class Var:
    """Binds a value (`Ref`), or with `constant` anything that is not one; `test` may refuse a candidate."""

    name: str
    constant: bool = False
    test: Callable[[Any], bool] | None = None


@dataclass(frozen=True)
class Node:
    """Matches an op, by one of its outputs, its name without namespace and overload, and the attributes that are named here."""

    name: str
    args: tuple[Any, ...]
    attrs: tuple[tuple[str, Any], ...] = ()
    output: int = 0


@dataclass(frozen=True)
class Either:
    """Matches what the first fitting one of `options` matches."""

    options: tuple[Any, ...]


class _Builder:
    def __getattr__(self, name: str) -> Callable[..., Node]:
        return lambda *args, **attrs: Node(name.rstrip("_"), args, tuple(attrs.items()))


A = _Builder()


def var(name: str) -> Var:
    """A variable that binds a value."""
    return Var(name)


def const(name: str, test: Callable[[Any], bool] | None = None) -> Var:
    """A variable that binds a constant."""
    return Var(name, constant=True, test=test)


def either(*options: Any) -> Either:
    """Alternatives, the more special ones first."""
    return Either(options)


def second(pattern: Node) -> Node:
    """The second output of an op."""
    return replace(pattern, output=1)


def pattern_name(op_name: str) -> str:
    """`aten.mul.Tensor` -> `mul`; a recognised op's name is its own base name. Reshapes are all `view`."""
    parts = op_name.split(".")
    name = parts[1] if parts[0] == "aten" else parts[0]
    return _SAME.get(name, name)


def match(pattern: Any, value: Any, producers: Mapping[str, Op], found: Bindings) -> Bindings | None:
    """Bindings under which `pattern` equals `value`, extending `found`; None if there are none."""
    if isinstance(pattern, Var):
        if pattern.name in found:
            return found if found[pattern.name] == value else None
        fits = isinstance(value, Ref) != pattern.constant and (pattern.test is None or pattern.test(value))
        return {**found, pattern.name: value} if fits else None
    if isinstance(pattern, Either):
        tries = (match(option, value, producers, found) for option in pattern.options)
        return next((bound for bound in tries if bound is not None), None)
    if isinstance(pattern, tuple):
        if not isinstance(value, tuple) or len(value) != len(pattern):
            return None
        return _match_all(pattern, value, producers, found)
    if not isinstance(pattern, Node):
        return found if pattern == value and isinstance(value, Ref) is False else None
    op = producers.get(value) if isinstance(value, Ref) else None
    if (
        op is None
        or value not in op.outputs[pattern.output : pattern.output + 1]
        or pattern_name(op.name) != pattern.name
    ):
        return None
    bound = _match_attrs(pattern, op, producers, found)
    if bound is None:
        return None
    orders = [pattern.args]
    if len(pattern.args) == 2 and pattern.name in COMMUTATIVE:
        orders.append(pattern.args[::-1])
    for args in orders:
        if len(args) == len(op.args) and (whole := _match_all(args, op.args, producers, bound)) is not None:
            return whole
    return None


def _match_attrs(pattern: Node, op: Op, producers: Mapping[str, Op], found: Bindings) -> Bindings | None:
    wanted = dict(pattern.attrs)
    if op.name.startswith("aten.") and set(op.attrs) - set(wanted):
        return None  # a named argument, such as alpha of add, makes it another function
    if set(wanted) - set(op.attrs):
        return None
    return _match_all(tuple(wanted.values()), tuple(op.attrs[name] for name in wanted), producers, found)


def _match_all(patterns: tuple, values: tuple, producers: Mapping[str, Op], found: Bindings) -> Bindings | None:
    for pattern, value in zip(patterns, values, strict=True):
        bound = match(pattern, value, producers, found)
        if bound is None:
            return None
        found = bound
    return found


def sources_between(stop: set[str], op: Op, producers: Mapping[str, Op]) -> tuple[str, ...]:
    """FX nodes between the values `stop` and `op`, all of which an op stands for that computes the one of the others."""
    found: dict[str, None] = {}
    todo = [op]
    while todo:
        here = todo.pop()
        found |= dict.fromkeys(here.sources)
        todo += [producers[v] for v in here.inputs if v not in stop and v in producers]
    return tuple(found)
