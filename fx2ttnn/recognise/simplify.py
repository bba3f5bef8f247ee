"""Small steps before the patterns, so that these need to know one form of each expression only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fx2ttnn.ir import Graph, Ref
from fx2ttnn.recognise.match import base_name


def simplify(graph: Graph) -> Graph:
    """Constants of one number stand where they are read; a `cat` has no empty parts, and is gone where one part is left."""
    numbers = {name: tensor.item() for name, tensor in graph.constants.items() if tensor.dim() == 0}
    renamed: dict[str, Any] = {}
    ops = []
    for op in graph.ops:
        op = replace(op, args=_replaced(op.args, lambda value: renamed.get(value, numbers.get(value, value))))
        if base_name(op.name) == "cat":
            parts = tuple(part for part in op.args[0] if graph.specs[part].numel)
            op = replace(op, args=(parts, *op.args[1:]))
            if len(parts) == 1:
                renamed[op.outputs[0]] = parts[0]
                continue
        ops.append(op)
    outputs = tuple(str(renamed.get(value, value)) for value in graph.outputs)
    constants = {name: tensor for name, tensor in graph.constants.items() if name not in numbers}
    return replace(graph, ops=tuple(ops), outputs=outputs, constants=constants)


def _replaced(args: tuple, of: Callable[[Ref], Any]) -> tuple:
    return tuple(_replaced(a, of) if isinstance(a, tuple) else of(a) if isinstance(a, Ref) else a for a in args)
