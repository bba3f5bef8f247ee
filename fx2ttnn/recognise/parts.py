"""Parts of a linear's output are linears of their own, each with some rows of the weight.

A model that stores query, key and value, or gate and up, as one weight then looks like one that stores them apart. `rows` of a
linear holds for each of its weights None or (start, stop, groups): rows start to stop of each of `groups` equal groups.

Which columns a part holds is read from strides: the views, slices and transposes behind a linear are tried on a tensor without data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from fx2ttnn.graph.aten import function_of
from fx2ttnn.ir import Graph, Op, Ref, TensorSpec
from fx2ttnn.recognise.match import pattern_name

Rows = tuple[int, int, int]
_MOVES = {
    "view",
    "slice",
    "select",
    "chunk",
    "split",
    "split_with_sizes",
    "unbind",
    "unsqueeze",
    "squeeze",
    "transpose",
}


@dataclass(frozen=True)
class _View:
    """A value behind a linear: `shape` holds its strides, `columns` which column of the linear is in each one of their base.

    `path` are the ops between.
    """

    shape: torch.Tensor
    columns: torch.Tensor
    path: tuple[Op, ...] = ()


def split_linears(graph: Graph) -> Graph:
    """Replace each linear that is read in parts only, either as they are or as heads, by one linear for each part."""
    users = graph.users()
    made: dict[str, list[Op]] = {}  # by the part that they compute
    dropped: set[str] = set()
    parameters, specs = dict(graph.parameters), dict(graph.specs)
    for linear in graph.ops:
        if linear.name != "linear" or {"rows", "experts"} & set(linear.attrs):
            continue
        views = _views(linear, graph, users)
        ends = {v: view for v, view in views.items() if v in graph.outputs or _is_read(users.get(v, []))}
        rows = {value: _rows(view, graph.specs[linear.outputs[0]].shape) for value, view in ends.items()}
        if not _parts_of(linear, ends, rows):
            continue
        order = sorted(ends, key=lambda v: rows[v] or ())
        for value, view in ends.items():
            name = part_name(linear.module.rsplit(".", 1)[-1], order.index(value), len(order))
            sources = tuple(s for op in (linear, *view.path) for s in op.sources)
            whole = replace(linear, sources=sources)
            made[value] = _part(whole, rows[value], name, value, view, parameters, specs)
        dropped |= set(views)
    ops = [
        new
        for op in graph.ops
        for new in ([op] if op.outputs[0] not in dropped else (n for out in op.outputs for n in made.get(out, [])))
    ]
    return replace(graph, ops=tuple(ops), parameters=parameters, specs=specs)


def part_name(leaf: str, index: int, count: int) -> str:
    """`gate_up_proj` holds `gate_proj` and `up_proj`, `qkv_proj` `q_proj`, `k_proj` and `v_proj`; else parts are numbered."""
    stem = leaf.removesuffix("_proj")
    words = stem.split("_")
    named = len(words) == count and all(len(word) > 1 for word in words)
    words = words if named else list(stem) if len(stem) == count else []
    return words[index] + leaf[len(stem) :] if words else f"{leaf}_{index + 1}"


def _moves(op: Op) -> bool:
    return op.name == "split_heads" or (op.name.startswith("aten.") and pattern_name(op.name) in _MOVES)


def _is_read(users: list[Op]) -> bool:
    return any(not _moves(op) for op in users)


def _views(linear: Op, graph: Graph, users: Mapping[str, list[Op]]) -> dict[str, _View]:
    """The linear's output and all that is made of it by moving numbers only."""
    out = linear.outputs[0]
    shape = graph.specs[out].shape
    found = {out: _View(torch.empty(shape, device="meta"), torch.arange(shape[-1]))}
    todo = [out]
    while todo:
        value = todo.pop()
        for op in users.get(value, []):
            if _moves(op):
                found |= dict(zip(op.outputs, _moved(op, found[value]), strict=True))
                todo += op.outputs
    return found


def _moved(op: Op, view: _View) -> list[_View]:
    """The outputs of `op`, one of `_MOVES`, on `view`."""
    path = (*view.path, op)
    if op.name == "split_heads":
        heads = (op.attrs["heads"], op.attrs["head_dim"])
        return [replace(view, shape=view.shape.unflatten(-1, heads).transpose(1, 2), path=path)]
    if pattern_name(op.name) == "view" and (columns := _columns(view, (0, 1))) is not None:
        # What no strides can say starts anew from the columns so far.
        fresh = torch.empty((*view.shape.shape[:2], columns.numel()), device="meta")
        view = _View(fresh, columns.flatten().clone())  # as_strided counts from the start of the memory
    result = function_of(op)(view.shape, *op.args[1:])
    parts = result if isinstance(result, list | tuple) else [result]
    return [replace(view, shape=part, path=path) for part in parts]


def _columns(view: _View, tokens: tuple[int, int]) -> torch.Tensor | None:
    """The linear's columns in all dims of `view` but `tokens`; None where these are not users and tokens, each as they were."""
    shape, width = view.shape, len(view.columns)
    dims = [shape.shape[d] for d in tokens]
    strides = (dims[1] * width, width)
    if any(n > 1 and shape.stride(d) != stride for n, d, stride in zip(dims, tokens, strides, strict=True)):
        return None
    rest = [d for d in range(shape.dim()) if d not in tokens]
    try:
        return view.columns.as_strided(
            [shape.shape[d] for d in rest], [shape.stride(d) for d in rest], shape.storage_offset()
        )
    except RuntimeError:  # outside of one token's columns
        return None


def _rows(view: _View, before: tuple[int, ...]) -> Rows | None:
    """The rows of the weight that [B, S, N] or heads [B, H, S, D] of a linear's output `before` take; None for another form."""
    tokens, rank = (0, 2), view.shape.dim()
    if rank == 3:
        tokens = (0, 1)
    if rank not in (3, 4) or tuple(view.shape.shape[d] for d in tokens) != before[:2]:
        return None
    found = _columns(view, tokens)
    if found is None:
        return None
    columns, width = found.flatten(), before[-1]
    jumps = (columns.diff() != 1).nonzero().flatten()
    start, run = int(columns[0]), int(jumps[0]) + 1 if len(jumps) else len(columns)
    groups = len(columns) // run
    if len(columns) % run or width % groups or start + run > width // groups:
        return None
    expected = torch.arange(groups)[:, None] * (width // groups) + torch.arange(start, start + run)
    return (start, start + run, groups) if torch.equal(columns, expected.flatten()) else None


def _parts_of(linear: Op, ends: Mapping[str, _View], rows: Mapping[str, Rows | None]) -> bool:
    """Whether all that is read are parts, no column twice; a linear that is read as it is or as heads needs no parts."""
    if not ends or any(r is None for r in rows.values()):
        return False
    if all(not view.path or [op.name for op in view.path] == ["split_heads"] for view in ends.values()):
        return False
    columns = torch.cat([c.flatten() for view in ends.values() if (c := _end_columns(view)) is not None])
    return len(columns.unique()) == len(columns)


def _end_columns(view: _View) -> torch.Tensor | None:
    return _columns(view, (0, 1) if view.shape.dim() == 3 else (0, 2))


def _part(linear: Op, rows: Rows | None, name: str, value: str, view: _View, parameters: dict, specs: dict) -> list[Op]:
    """The linear of `rows`, with parameters of its own, that gives `value`; as heads where the value is heads."""
    assert rows is not None
    start, stop, groups = rows
    count = (stop - start) * groups
    weights = []
    for weight in linear.args[1:]:
        part = Ref(f"{weight}_{value}")
        parameters[part] = parameters[weight]
        specs[part] = replace(specs[weight], shape=(count, *specs[weight].shape[1:]))
        weights.append(part)
    whole = specs[linear.outputs[0]].shape
    heads = view.shape.dim() == 4
    out = value if not heads else f"{value}_columns"
    specs[out] = TensorSpec((*whole[:-1], count), specs[value].dtype)
    attrs = {**linear.attrs, "rows": (rows,), "part": name}
    made = [Op("linear", (linear.args[0], *weights), (out,), attrs, linear.module, linear.sources)]
    if heads:
        _, number, _, size = specs[value].shape
        last = view.path[-1]
        split = {"heads": number, "head_dim": size}
        made.append(Op("split_heads", (Ref(out),), (value,), split, last.module, last.sources))
    return made
