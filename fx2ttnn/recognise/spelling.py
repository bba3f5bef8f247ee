"""One spelling for what torch lets a model write in several ways, so that the steps that follow need to know one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fx2ttnn.ir import Graph, Op, Ref
from fx2ttnn.recognise.match import pattern_name

_TRANSPOSES = {"numpy_T", "t", "mT", "matrix_H", "numpy_H"}
_BROADCASTS = {"add", "mul", "sub", "div"}  # they spread a smaller operand themselves


def one_spelling(graph: Graph) -> Graph:
    """A permutation that swaps two dims is a transpose, an index of neighbours a slice, a product with a transposed weight a linear, a
    flatten of dims before the last a view.

    A parameter that the same module adds to a linear is its bias. What is expanded for an elementwise op only is read as it is.
    """
    producers, users = graph.producers(), graph.users()
    for op in graph.ops:
        spelled = _with_bias(_of_expanded(_spelled(op, graph, producers), graph, producers), graph, producers, users)
        producers |= dict.fromkeys(op.outputs, spelled)
    return graph.with_ops(tuple(producers[op.outputs[0]] for op in graph.ops))


def _spelled(op: Op, graph: Graph, producers: Mapping[str, Op]) -> Op:
    name = pattern_name(op.name)
    if name == "permute" and len(moved := [i for i, dim in enumerate(op.args[1]) if dim != i]) == 2:
        return replace(op, name="aten.transpose.int", args=(op.args[0], *moved))
    shape = graph.specs[op.outputs[0]].shape
    if name == "flatten" and shape[-1] == graph.specs[op.args[0]].shape[-1]:
        return replace(op, name="aten.view.default", args=(op.args[0], shape), attrs={})
    if name == "index" and (found := _neighbours(op, graph)) is not None:
        return replace(op, name="aten.slice.Tensor", args=(op.args[0], *found))
    if name in ("matmul", "mm") and (weight := _transposed_parameter(op.args[1], graph, producers)) is not None:
        return replace(op, name="aten.linear.default", args=(op.args[0], weight))
    return op


def _neighbours(op: Op, graph: Graph) -> tuple[int, int, int] | None:
    """Dim, start and end of an index by one constant list of neighbours."""
    dims = [dim for dim, index in enumerate(op.args[1]) if index is not None]
    index = graph.constants.get(op.args[1][dims[0]]) if len(dims) == 1 else None
    if index is None or index.dim() != 1 or index.dtype.is_floating_point or (index.diff() != 1).any():
        return None
    size = graph.specs[op.args[0]].shape[dims[0]]
    first, last = int(index[0]), int(index[-1])
    if first < 0 <= last:
        return None
    return dims[0], first % size, last % size + 1


def _transposed_parameter(value: str, graph: Graph, producers: Mapping[str, Op]) -> Ref | None:
    """The parameter [N, K] of which `value` is the transpose."""
    op = producers.get(value)
    if op is None or op.args[0] not in graph.parameters or len(graph.specs[value].shape) != 2:
        return None
    swap = pattern_name(op.name) == "transpose" and sorted(dim % 2 for dim in op.args[1:]) == [0, 1]
    permuted = pattern_name(op.name) == "permute" and tuple(op.args[1]) == (1, 0)
    return op.args[0] if swap or permuted or pattern_name(op.name) in _TRANSPOSES else None


def _of_expanded(op: Op, graph: Graph, producers: Mapping[str, Op]) -> Op:
    if pattern_name(op.name) not in _BROADCASTS:
        return op
    shape = graph.specs[op.outputs[0]].shape

    def plain(arg: object) -> object:
        made = producers.get(arg) if isinstance(arg, Ref) else None
        others = [v for v in op.inputs if v != arg]
        spread = made is not None and pattern_name(made.name) in ("expand", "expand_as", "broadcast_to")
        return made.args[0] if spread and others and graph.specs[others[0]].shape == shape else arg  # type: ignore[union-attr]

    return replace(op, args=tuple(map(plain, op.args)))


def _with_bias(op: Op, graph: Graph, producers: Mapping[str, Op], users: Mapping[str, list[Op]]) -> Op:
    if pattern_name(op.name) != "add" or op.attrs or len(op.inputs) != 2:
        return op
    for value, bias in (op.args, op.args[::-1]):
        linear = producers.get(value)
        if (
            linear is None
            or pattern_name(linear.name) != "linear"
            or len(linear.args) != 2
            or linear.module != op.module
        ):
            continue
        if len(users[value]) > 1:
            continue  # a correction of a choice, which others do not see
        if bias in graph.parameters and graph.specs[bias].shape == graph.specs[linear.args[1]].shape[:1]:
            return replace(linear, args=(*linear.args, bias), outputs=op.outputs, sources=linear.sources + op.sources)
    return op
