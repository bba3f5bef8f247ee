"""Removes what does nothing and spells out shapes, so that later stages see one form of each op."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fx2ttnn.graph.aten import base_name
from fx2ttnn.graph.dead_code import without_dead_code, without_unread_values
from fx2ttnn.ir import Graph, Op, Ref, TensorSpec, rename

# The value stays the same whatever the other arguments are.
_ALWAYS = {"detach", "alias", "clone", "contiguous", "lift_fresh", "lift_fresh_copy", "positive"}
# The value stays the same where shape and dtype do.
_IF_SAME_SPEC = {"to", "_to_copy", "type_as", "view", "reshape", "_unsafe_view", "expand", "expand_as", "flatten"} | {
    "squeeze", "view_as", "reshape_as", "unflatten", "slice", "broadcast_to",
}  # fmt: skip
_CHECKS = {"_assert_async", "_assert_scalar", "_assert_tensor_metadata", "sym_constrain_range_for_size"}
_SHAPED = {"view", "reshape", "_unsafe_view", "expand"}  # second argument: the shape
_EFFECTS = {"update_cache"}


def clean(graph: Graph) -> Graph:
    """The graph without ops that do nothing and without values that nobody reads."""
    renamed: dict[str, Ref] = {}
    ops = []
    for op in graph.ops:
        attrs = dict(zip(op.attrs, rename(tuple(op.attrs.values()), renamed), strict=True))
        op = replace(op, args=rename(op.args, renamed), attrs=attrs)
        base = base_name(op)
        if base in _CHECKS:
            continue
        if _does_nothing(op, base, graph.specs):
            renamed[op.outputs[0]] = Ref(op.inputs[0])
        else:
            ops.append(_explicit(op, base, graph.specs))
    outputs = tuple(str(renamed.get(o, o)) for o in graph.outputs)
    return without_dead(replace(graph, ops=tuple(ops), outputs=outputs))


def _does_nothing(op: Op, base: str, specs: Mapping[str, TensorSpec]) -> bool:
    if base in _ALWAYS:
        return True
    if base == "dropout":
        return op.args[2] is False or op.args[1] == 0
    same = len(op.outputs) == 1 and bool(op.inputs) and specs[op.inputs[0]] == specs[op.outputs[0]]
    neutral = {"mul": 1, "div": 1, "add": 0, "sub": 0}.get(base)
    computes_nothing = (
        neutral is not None and len(op.args) == 2 and op.args[1] == neutral and not isinstance(op.args[1], Ref)
    )
    return same and (base in _IF_SAME_SPEC or computes_nothing)


def _explicit(op: Op, base: str, specs: Mapping[str, TensorSpec]) -> Op:
    """Shapes without -1 and slices that end within their dim."""
    if base in _SHAPED and isinstance(op.args[1], tuple):  # view also has a form that takes a dtype
        return replace(op, args=(op.args[0], specs[op.outputs[0]].shape))
    if base == "slice":
        args = [*op.args, *(0, 0, None)[len(op.args) - 1 :]]
        size = specs[args[0]].shape[args[1]]
        return replace(op, args=(*args[:2], _within(size, args[2], 0), _within(size, args[3], size), *args[4:]))
    return op


def _within(size: int, bound: int | None, default: int) -> int:
    if bound is None:
        return default
    return max(0, min(size, bound + size if bound < 0 else bound))


def without_dead(graph: Graph) -> Graph:
    """Drops ops, parameters, constants and specs that no output and no cache update depends on."""
    return without_unread_values(without_dead_code(graph, _EFFECTS))
