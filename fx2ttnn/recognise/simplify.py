"""Small steps before the patterns, so that these need to know one form of each expression only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from fx2ttnn.ir import Graph, Op, Ref
from fx2ttnn.recognise.match import pattern_name


def simplify(graph: Graph) -> Graph:
    """Constants of one number stand where they are read; a `cat` has no empty parts, and is gone where one part is left.

    So is a choice among groups of which all are taken: nothing is masked then.
    """
    numbers = {name: tensor.item() for name, tensor in graph.constants.items() if tensor.dim() == 0}
    renamed: dict[str, Any] = {}
    alike: dict[str, Any] = {}  # value whose elements all are one number -> that number
    producers = graph.producers()
    ops = []
    for op in graph.ops:
        op = replace(op, args=_replaced(op.args, lambda value: renamed.get(value, numbers.get(value, value))))
        if pattern_name(op.name) == "cat":
            parts = tuple(part for part in op.args[0] if graph.specs[part].numel)
            op = replace(op, args=(parts, *op.args[1:]))
            if len(parts) == 1:
                renamed[op.outputs[0]] = parts[0]
                continue
        if pattern_name(op.name) == "to" and not isinstance(op.args[0], Ref) and str(op.args[1]).startswith("float"):
            renamed[op.outputs[0]] = float(op.args[0])
            continue
        if (number := _of_all_elements(op, alike, graph, producers)) is not None:
            alike[op.outputs[0]] = number
        if pattern_name(op.name) == "masked_fill" and alike.get(op.args[1]) is False:
            renamed[op.outputs[0]] = op.args[0]
            continue
        ops.append(op)
    outputs = tuple(str(renamed.get(value, value)) for value in graph.outputs)
    constants = {name: tensor for name, tensor in graph.constants.items() if name not in numbers}
    return replace(graph, ops=tuple(ops), outputs=outputs, constants=constants)


def _of_all_elements(op: Op, alike: Mapping[str, Any], graph: Graph, producers: Mapping[str, Op]) -> Any:
    """The number that every element of the op's output is, if that is known."""
    name = pattern_name(op.name)
    if name == "zeros_like":
        return 0
    if name == "scatter" and op.name.endswith(".value"):
        chosen = producers.get(op.args[2])
        everywhere = chosen is not None and pattern_name(chosen.name) == "topk" and op.args[2] == chosen.outputs[1]
        everywhere = everywhere and graph.specs[op.args[2]].shape == graph.specs[op.args[0]].shape
        return op.args[3] if everywhere else None
    known = alike.get(op.args[0]) if op.args and isinstance(op.args[0], Ref) else None
    if known is None or name not in ("view", "expand", "unsqueeze", "to", "bitwise_not"):
        return None
    if name == "bitwise_not":
        return not known if isinstance(known, bool) else None
    return bool(known) if name == "to" and op.args[1] == "bool" else known if name != "to" else None


def _replaced(args: tuple, of: Callable[[Ref], Any]) -> tuple:
    return tuple(_replaced(a, of) if isinstance(a, tuple) else of(a) if isinstance(a, Ref) else a for a in args)
