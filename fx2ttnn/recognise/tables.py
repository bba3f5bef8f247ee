"""What depends on nothing but the positions is a table: computed once for every position, looked up at each step.

This covers rotary embeddings of every kind without knowing any of them. Some depend on the last position of the sequence too, by
being of one kind up to some length, the `border`, and of another beyond: a table then has rows of both kinds (emit/position_tables.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fx2ttnn.ir import Graph, Op, Ref, TensorSpec, rename
from fx2ttnn.names import layer_of
from fx2ttnn.recognise.match import A, const, either, match, pattern_name, var

POSITIONS = "position_ids"
LAST = "last_position"  # second input of tables that depend on it
_shifted = A.add(var("ids"), const("start", lambda n: isinstance(n, int) and n >= 0))
_SHIFTED = either(A.embedding(var("weight"), _shifted), A.embedding(var("weight"), _shifted, const("padding")))
_BORDERS = {"gt": 0, "le": 0, "ge": -1, "lt": -1}  # what compares with n tells numbers up to n + this from those beyond
_SHAPING = {"mul", "to", "_to_copy", "unsqueeze", "view", "slice", "repeat_interleave"}  # words that name no table


def tabulate_positions(graph: Graph) -> Graph:
    """Replace each value that is read by the rest of the model and depends only on positions and constants by a `position_table`.

    The op's attribute `table` is the graph that computes one row for each position; its output is [B, S, ...]. `border` is the
    length up to which sequences have other rows than beyond, of all tables of the model, or 0.
    """
    if POSITIONS not in graph.inputs:
        return graph
    graph, border = _last_position(_one_of_equals(_learned(graph)))
    free = {POSITIONS, LAST, *graph.constants}
    inside: dict[str, Op] = {}
    for op in graph.ops:
        if op.inputs and all(v in free for v in op.inputs):
            free |= set(op.outputs)
            inside |= dict.fromkeys(op.outputs, op)
    for op in reversed(graph.ops):  # a last unsqueeze belongs to the op that reads the table
        if op.outputs[0] in inside and pattern_name(op.name) == "unsqueeze" and not _read_inside(op, inside):
            del inside[op.outputs[0]]
    rest, wanted = _cut(graph, inside)
    while numbers := [v for v in wanted if not graph.specs[v].dtype.startswith("float")]:  # a table holds no integers
        for value in numbers:
            del inside[value]
        rest, wanted = _cut(graph, inside)
    layers = {layer_of(op.module) for op in graph.ops if op.name == "update_cache"}
    tables: list[Op] = []
    for value in wanted:
        stem = _stem(value, inside, {op.attrs["stem"] for op in tables})
        table = _slice(graph, value, inside)
        sources = tuple(s for op in table.ops for s in op.sources)
        attrs = {"stem": stem, "table": table, "border": border}
        tables.append(Op("position_table", (Ref(POSITIONS),), (value,), attrs, _module(table, layers), sources))
    graph = graph.with_ops((*tables, *rest))
    return _of_tokens(_without_heads(graph))


def _last_position(graph: Graph) -> tuple[Graph, int]:
    """The graph with `LAST` in place of the maximum of all positions, and the border; as it is and 0 if there is not one border."""
    users = graph.users()
    found = [op for op in graph.ops if op.name == "aten.max.default" and op.args == (POSITIONS,)]
    borders: set[int | None] = set()
    for last in found:
        todo = [(last.outputs[0], 0)]
        while todo:
            value, more = todo.pop()
            for user in users.get(value, []):
                name, number = pattern_name(user.name), user.args[1] if len(user.args) == 2 else None
                if isinstance(number, int) and name == "add":
                    todo.append((user.outputs[0], more + number))
                elif isinstance(number, int) and name in _BORDERS:
                    borders.add(number + _BORDERS[name] - more + 1)
                else:
                    borders.add(None)
    learned = any(op.name == "embedding" for op in users.get(POSITIONS, []))  # has one row for each position only
    border = borders.pop() if len(borders) == 1 and not learned else None
    if border is None:
        return graph, 0
    names = dict.fromkeys((op.outputs[0] for op in found), LAST)
    ops = tuple(replace(op, args=rename(op.args, names)) for op in graph.ops if op not in found)
    return graph.with_ops(ops, {LAST: graph.specs[found[0].outputs[0]]}), border


def _cut(graph: Graph, inside: dict[str, Op]) -> tuple[list[Op], dict[str, None]]:
    """The ops that compute more than tables, and the tables that they read."""
    rest = [op for op in graph.ops if op.outputs[0] not in inside]
    return rest, dict.fromkeys(v for op in rest for v in op.inputs if v in inside)


def _learned(graph: Graph) -> Graph:
    """A learned embedding of position + n is one of the position, of the rows of its weight from n on: `rows`, see parts.py."""
    producers = graph.producers()
    parameters, specs = dict(graph.parameters), dict(graph.specs)
    ops = []
    for op in graph.ops:
        found = match(_SHIFTED, Ref(op.outputs[0]), producers, {}) if pattern_name(op.name) == "embedding" else None
        if found and found["ids"] == POSITIONS and found["weight"] in graph.parameters:
            weight = Ref(f"{found['weight']}_from_{found['start']}")
            rows, *width = specs[found["weight"]].shape
            parameters[weight] = parameters[found["weight"]]
            specs[weight] = replace(specs[found["weight"]], shape=(rows - found["start"], *width))
            attrs = {"rows": (found["start"], rows, 1)}
            op = replace(op, name="embedding", args=(Ref(POSITIONS), weight), attrs=attrs)
        ops.append(op)
    return replace(graph, ops=tuple(ops), parameters=parameters, specs=specs)


def _one_of_equals(graph: Graph) -> Graph:
    """Of ops on positions that compute the same, as layers do for queries and keys, the first stands for all; parts are slices."""
    free = {POSITIONS, *graph.constants}
    renamed: dict[str, str] = {}
    known: dict[str, str] = {}
    ops: list[Op] = []
    for op in graph.ops:
        op = replace(op, args=rename(op.args, renamed))
        inside = bool(op.inputs) and all(v in free for v in op.inputs)
        for part in _slices(op, graph) if inside else [op]:
            free |= set(part.outputs) if inside else set()
            key = repr((part.name, part.args, dict(part.attrs)))
            if inside and key in known:
                renamed[part.outputs[0]] = known[key]
                continue
            if inside:
                known[key] = part.outputs[0]
            ops.append(part)
    return graph.with_ops(tuple(ops))


def _slices(op: Op, graph: Graph) -> list[Op]:
    """An op that parts the last dim, as one slice for each part."""
    if pattern_name(op.name) not in ("split", "split_with_sizes", "chunk") or op.args[2:] != (-1,):
        return [op]
    made, start = [], 0
    for value in op.outputs:
        stop = start + graph.specs[value].shape[-1]
        made.append(replace(op, name="aten.slice.Tensor", args=(op.args[0], -1, start, stop), outputs=(value,)))
        start = stop
    return made


def _without_heads(graph: Graph) -> Graph:
    """Tables [B, 1, S, X], shaped for heads, become [B, S, X] with an `unsqueeze` behind them."""
    ops: list[Op] = []
    specs: dict[str, TensorSpec] = {}
    for op in graph.ops:
        value = op.outputs[0]
        spec = graph.specs[value]
        if op.name != "position_table" or len(spec.shape) != 4 or spec.shape[1] != 1:
            ops.append(op)
            continue
        flat = f"{value}_flat"
        specs[flat] = replace(spec, shape=(spec.shape[0], *spec.shape[2:]))
        squeeze = Op("aten.squeeze.dim", (Ref(value), 1), (flat,))
        table = append(op.attrs["table"], squeeze, specs[flat])
        ops.append(replace(op, outputs=(flat,), attrs={**op.attrs, "table": table}))
        ops.append(Op("aten.unsqueeze.default", (Ref(flat), 1), (value,), {}, op.module))
    return graph.with_ops(tuple(ops), specs)


def border_of(graph: Graph) -> int:
    """The length up to which sequences have other rows of the position tables than beyond, or 0."""
    return max((op.attrs["border"] for op in graph.ops if op.name == "position_table"), default=0)


def _of_tokens(graph: Graph) -> Graph:
    """Tables that are only added to hidden states [B, S, X] of their width get attribute `of_tokens`."""
    users = graph.users()

    def added(value: str) -> bool:
        shape, readers = graph.specs[value].shape, users.get(value, [])
        return len(shape) == 3 and all(
            pattern_name(op.name) == "add" and all(graph.specs[v].shape == shape for v in op.inputs) for op in readers
        )

    return graph.with_ops(
        tuple(
            replace(op, attrs={**op.attrs, "of_tokens": True})
            if op.name == "position_table" and added(op.outputs[0])
            else op
            for op in graph.ops
        )
    )


def append(table: Graph, op: Op, spec: TensorSpec, constants: Mapping[str, Any] | None = None) -> Graph:
    """The table with one more op, whose result it then gives."""
    table = table.with_ops((*table.ops, op), {op.outputs[0]: spec})
    return replace(table, outputs=op.outputs, constants={**table.constants, **(constants or {})})


def _read_inside(op: Op, inside: dict[str, Op]) -> bool:
    return any(op.outputs[0] in other.inputs for other in inside.values())


def _slice(graph: Graph, value: str, inside: dict[str, Op]) -> Graph:
    """The part of `graph` that computes `value`."""
    needed: set[str] = {value}
    ops = []
    for op in reversed(graph.ops):
        if needed & set(op.outputs) and op.outputs[0] in inside:
            needed |= set(op.inputs)
            ops.append(op)
    constants = {name: tensor for name, tensor in graph.constants.items() if name in needed}
    specs = {name: graph.specs[name] for name in needed}
    inputs = (POSITIONS, LAST) if LAST in needed else (POSITIONS,)
    return Graph(value, inputs, (value,), tuple(reversed(ops)), specs, {}, constants)


def _module(table: Graph, layers: set[str | None]) -> str:
    """The module that computes the table; a last step inside one of `layers` does not make the table the layer's.

    A list of modules that are no layers, as rotary embeddings may be in, stands for each of them.
    """
    modules = [op.module for op in table.ops]
    module = next((module for module in reversed(modules) if layer_of(module) not in layers), modules[-1])
    listed = layer_of(module)
    return module if listed is None or listed in layers else listed.rpartition(".")[0]


def _stem(value: str, inside: dict[str, Op], taken: set[str]) -> str:
    """A name for the table: the last op that is no scaling or cast (`cos`, `sin`), numbered where it is taken."""
    op = inside[value]
    while pattern_name(op.name) in _SHAPING and op.args[0] in inside:
        op = inside[op.args[0]]
    stem = pattern_name(op.name)
    names = [stem, *(f"{stem}_{n}" for n in range(2, len(taken) + 3))]
    return next(name for name in names if name not in taken)
