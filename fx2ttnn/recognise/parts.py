"""Parts of a linear's output are linears of their own, each with some rows of the weight.

A model that stores query, key and value, or gate and up, as one weight then looks like one that stores them apart. `rows` of a
linear holds for each of its weights None or (start, stop, groups): rows start to stop of each of `groups` equal groups.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise

from fx2ttnn.ir import Graph, Op, Ref, TensorSpec
from fx2ttnn.recognise.match import base_name

Range = tuple[int, int]  # first column of a value's last dim, and the one behind the last


def split_linears(graph: Graph) -> Graph:
    """Replace each linear that is read in parts only, either itself or as heads, by one linear for each part."""
    producers, users = graph.producers(), graph.users()
    made: dict[str, list[Op]] = {}  # by the first output of the op that takes the part
    dropped: set[str] = set()
    parameters, specs = dict(graph.parameters), dict(graph.specs)
    for op in graph.ops:
        linear = _linear_behind(op, producers, users)
        if linear is None or linear.outputs[0] in graph.outputs:
            continue
        ranges = {v: r for user in users[op.outputs[0]] for v, r in _ranges(user, graph).items()}
        if not ranges or any(not _ranges(user, graph) for user in users[op.outputs[0]]) or _overlap(ranges):
            continue
        groups = 1 if op is linear else op.attrs["heads"]
        for user in users[op.outputs[0]]:
            made[user.outputs[0]] = []
            for value in user.outputs:
                order = sorted(ranges, key=lambda v: ranges[v])
                name = part_name(linear.module.rsplit(".", 1)[-1], order.index(value), len(order))
                sources = linear.sources + (op.sources if op is not linear else ()) + user.sources
                whole = replace(linear, sources=sources)
                made[user.outputs[0]] += _part(whole, (*ranges[value], groups), name, value, op, parameters, specs)
        dropped |= {linear.outputs[0], op.outputs[0]}
    ops = [new for op in graph.ops if op.outputs[0] not in dropped for new in made.get(op.outputs[0], [op])]
    return replace(graph, ops=tuple(ops), parameters=parameters, specs=specs)


def part_name(leaf: str, index: int, count: int) -> str:
    """`gate_up_proj` holds `gate_proj` and `up_proj`, `qkv_proj` `q_proj`, `k_proj` and `v_proj`; else parts are numbered."""
    stem = leaf.removesuffix("_proj")
    words = stem.split("_")
    words = words if len(words) == count else list(stem) if len(stem) == count else []
    return words[index] + leaf[len(stem) :] if words else f"{leaf}_{index + 1}"


def _linear_behind(op: Op, producers: Mapping[str, Op], users: Mapping[str, list[Op]]) -> Op | None:
    """The linear whose output `op` gives, as it is or as heads that nothing else reads."""
    if op.name == "linear":
        return op
    linear = producers.get(op.args[0]) if op.name == "split_heads" else None
    alone = linear is not None and linear.name == "linear" and len(users[linear.outputs[0]]) == 1
    return linear if alone else None


def _ranges(op: Op, graph: Graph) -> dict[str, Range]:
    """Which part of the last dim of its input each output of `op` is; empty for an op that takes no such parts."""
    name = base_name(op.name)
    if not op.name.startswith("aten.") or name not in ("slice", "chunk", "split", "split_with_sizes"):
        return {}
    before, dim = graph.specs[op.args[0]].shape, op.args[1] if name == "slice" else (*op.args, 0)[2]
    if dim % len(before) != len(before) - 1 or op.args[4:] not in ((), (1,)):
        return {}
    start = op.args[2] if name == "slice" else 0
    found = {}
    for out in op.outputs:
        width = graph.specs[out].shape[-1]
        found[out] = (start, start + width)
        start += width
    return found


def _overlap(ranges: Mapping[str, Range]) -> bool:
    order = sorted(ranges.values())
    return any(before[1] > after[0] for before, after in pairwise(order))


def _part(
    linear: Op, rows: tuple[int, int, int], name: str, value: str, op: Op, parameters: dict, specs: dict
) -> list[Op]:
    """The linear of `rows`, with parameters of its own, that gives `value`; as heads where `op` makes heads."""
    start, stop, groups = rows
    count = (stop - start) * groups
    weights = []
    for weight in linear.args[1:]:
        part = Ref(f"{weight}_{value}")
        parameters[part] = parameters[weight]
        specs[part] = replace(specs[weight], shape=(count, *specs[weight].shape[1:]))
        weights.append(part)
    whole = specs[linear.outputs[0]].shape
    heads = op.name == "split_heads"
    out = value if not heads else f"{value}_columns"
    specs[out] = TensorSpec((*whole[:-1], count), specs[value].dtype)
    attrs = {**linear.attrs, "rows": (rows,), "part": name}
    made = [Op("linear", (linear.args[0], *weights), (out,), attrs, linear.module, linear.sources)]
    if heads:
        split = {"heads": groups, "head_dim": stop - start}
        made.append(Op("split_heads", (Ref(out),), (value,), split, op.module, op.sources))
    return made
