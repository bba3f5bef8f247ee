"""Whether a graph is one: every value made once and before it is read, every op as its entry in the table of operations says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from fx2ttnn.errors import GraphError
from fx2ttnn.ir import Graph, Op, Ref, TensorSpec
from fx2ttnn.ops import TABLE, Attribute, Operand, Operation


def verify(graph: Graph, where: str) -> Graph:
    """The graph itself. Raises GraphError, which names `where` (a stage or a pass), the op and what is wrong with it."""
    known = {*graph.inputs, *graph.parameters, *graph.constants}
    for op in graph.ops:
        for fault in (*_values(op, graph, known), *faults(op, graph)):
            raise GraphError(f"{where}: {fault}\n  {op}")
        known.update(op.outputs)
    for value in graph.outputs:
        if value not in known:
            raise GraphError(f"{where}: the graph gives {value}, which nothing makes")
    return graph


def _values(op: Op, graph: Graph, known: set[str]) -> Iterator[str]:
    for value in op.inputs:
        if value not in known:
            yield f"reads {value} before it is made"
    for value in op.outputs:
        if value in known:
            yield f"makes {value}, which is there already"
        if value not in graph.specs:
            yield f"makes {value}, whose shape is not known"


def faults(op: Op, graph: Graph) -> Iterator[str]:
    """What is wrong with an op, by its entry; ATen's ops have none, their schemas were checked when they were traced."""
    if op.name.startswith("aten."):
        return
    entry = TABLE.get(op.name)
    if entry is None:
        yield f"there is no operation {op.name} (fx2ttnn/ops)"
        return
    yield from _attributes(op, entry)
    arguments = list(_arguments(op, entry))
    yield from (said for said in arguments if isinstance(said, str))
    pairs = [pair for pair in arguments if not isinstance(pair, str)]
    if len(op.outputs) != len(entry.results):
        yield f"gives {len(op.outputs)} values, not {len(entry.results)}"
    elif len(pairs) == len(arguments):
        pairs += [(value, operand) for value, operand in zip(op.outputs, entry.results, strict=True)]
        yield from _shapes(op, entry, pairs, graph)


def _attributes(op: Op, entry: Operation) -> Iterator[str]:
    known: dict[str, Attribute] = {**entry.attributes, **entry.earlier}
    for name, attribute in entry.attributes.items():
        if name not in op.attrs and not attribute.optional:
            yield f"lacks its attribute {name!r}"
    for name, value in op.attrs.items():
        if name not in known:
            yield f"has no attribute {name!r}; it has {', '.join(known) or 'none'}"
        elif not isinstance(value, known[name].types) and not (value is None and known[name].optional):
            yield f"attribute {name!r} is {value!r}, not {' or '.join(kind.__name__ for kind in known[name].types)}"


def _arguments(op: Op, entry: Operation) -> Iterator[tuple[str, Operand] | str]:
    """Each value that the op reads with the operand that it is, or what is wrong with an argument."""
    needed = sum(not operand.optional for operand in entry.operands)
    if not needed <= len(op.args) <= len(entry.operands):
        yield f"has {len(op.args)} arguments, not {' to '.join(map(str, dict.fromkeys((needed, len(entry.operands)))))}"
        return
    for argument, operand in zip(op.args, entry.operands, strict=False):
        if isinstance(argument, tuple) and operand.several:
            yield from ((value, operand) if isinstance(value, Ref) else _no_value(value, operand) for value in argument)
        elif isinstance(argument, Ref):
            yield argument, operand
        else:
            yield _no_value(argument, operand)


def _no_value(argument: Any, operand: Operand) -> str:
    return f"{operand.name} is {argument!r}, not a value"


def _shapes(op: Op, entry: Operation, pairs: list[tuple[str, Operand]], graph: Graph) -> Iterator[str]:
    specs = [graph.specs[value] for value, _ in pairs if value in graph.specs]
    if len(specs) < len(pairs):
        return  # said of the values already
    for spec, (value, operand) in zip(specs, pairs, strict=True):
        if operand.integers and "int" not in spec.dtype:
            yield f"{operand.name or value} holds {spec.dtype}, not whole numbers"
    yield from _unlike(specs, pairs)
    if entry.pointwise and (shape := _broadcast(specs[: len(op.inputs)])) != specs[-1].shape:
        yield f"gives shape {list(specs[-1].shape)} of operands that make {shape and list(shape)}"


def _unlike(specs: list[TensorSpec], pairs: list[tuple[str, Operand]]) -> Iterator[str]:
    """What of the shapes is not as the entry has it."""
    sizes: dict[str, int] = {}
    for spec, (value, operand) in zip(specs, pairs, strict=True):
        open_ended, dims = operand.dims[:1] == ("...",), tuple(dim for dim in operand.dims if dim != "...")
        rank = len(spec.shape)
        wanted = f"{operand.name or value} has shape {list(spec.shape)}, not [{' '.join(operand.dims)}]"
        if rank < len(dims) or (rank > len(dims) and not open_ended):
            yield wanted
            return
        for dim, size in zip(dims, spec.shape[rank - len(dims) :], strict=True):
            if dim != "_" and sizes.setdefault(dim, int(dim) if dim.isdigit() else size) != size:
                yield f"{wanted} with {dim} = {sizes[dim]}"


def _broadcast(specs: list[TensorSpec]) -> tuple[int, ...] | None:
    try:
        return tuple(torch.broadcast_shapes(*(spec.shape for spec in specs)))
    except RuntimeError:
        return None
