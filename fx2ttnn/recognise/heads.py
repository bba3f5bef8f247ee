"""Projections that read the same value and are split into heads become one: the query, key and value of an attention.

Where they cannot (a norm over all heads stands between, or only one has a bias), each is split into heads for itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fx2ttnn.graph.trace import refused
from fx2ttnn.ir import Graph, Op, Ref, TensorSpec
from fx2ttnn.names import common_module
from fx2ttnn.ops import KEEPS_HEADS

Projection = tuple[Op, Op]  # a linear and the split_heads that reads it


def fuse_projections(graph: Graph) -> Graph:
    """Fuse linear ops that feed one attention into one `linear` with several weights and a `create_qkv_heads`.

    The fused output is [B, S, (Hq + 2 Hkv) D], queries first; a chip that holds some of the heads holds those of all three.
    """
    producers, users = graph.producers(), graph.users()
    replaced: dict[str, list[Op]] = {}
    dropped: set[str] = set()
    specs: dict[str, TensorSpec] = {}
    for attention in graph.ops:
        found = _projections(attention, producers, users) if attention.name == "attention" else None
        if found is None:
            continue
        linear, create, spec = _fused(found, graph)
        specs[linear.outputs[0]] = spec
        last = max((projection for projection, _ in found), key=graph.ops.index)
        replaced[last.outputs[0]] = [linear, create]
        dropped |= {out for pair in found for op in pair for out in op.outputs}
    ops = [new for op in graph.ops for new in (replaced.get(op.outputs[0], []) if op.outputs[0] in dropped else [op])]
    return graph.with_ops(_in_order(ops), specs)


def _projections(attention: Op, producers: Mapping[str, Op], users: Mapping[str, list[Op]]) -> list[Projection] | None:
    """The projections of query, key and value, if they are three linear ops of one input that nothing else reads."""
    found: list[Projection] = []
    for value in attention.args[:3]:
        split = _origin(value, producers)
        linear = producers.get(split.args[0]) if split else None
        if split is None or linear is None or linear.name != "linear" or len(users[linear.outputs[0]]) != 1:
            refused("fuse_projections", attention, f"{value} is not heads of a linear that nothing else reads")
            return None
        found.append((linear, split))
    linears = [linear for linear, _ in found]
    alike = len({(linear.args[0], len(linear.args), linear.attrs.get("transposed")) for linear in linears}) == 1
    distinct = len({linear.outputs[0] for linear in linears}) == 3
    if not (alike and distinct):
        refused("fuse_projections", attention, "the projections have other inputs, or not all a bias, or are not three")
        return None
    return found


def _selections(linears: tuple[Op, ...]) -> dict[str, Any]:
    """Which rows of its weight each linear takes, and in which order, where one of them says so; how the weights are stored."""
    found = {key: tuple(linear.attrs.get(key, (None,))[0] for linear in linears) for key in ("rows", "orders")}
    stored = {"transposed": True} if linears[0].attrs.get("transposed") else {}
    return {key: values for key, values in found.items() if any(values)} | stored


def _fused(found: list[Projection], graph: Graph) -> tuple[Op, Op, TensorSpec]:
    """The fused linear, the op that makes heads of its output, and that output's spec."""
    linears, splits = zip(*found, strict=True)
    query = linears[0]
    spec = graph.specs[query.outputs[0]]
    widths = tuple(graph.specs[linear.outputs[0]].shape[-1] for linear in linears)
    heads = tuple(split.attrs["heads"] for split in splits)
    weights = tuple(linear.args[1] for linear in linears)
    biases = tuple(linear.args[2] for linear in linears if len(linear.args) > 2)
    module = common_module([linear.module for linear in linears])
    fused = Ref(f"{query.outputs[0]}_qkv")
    linear = Op(
        "linear",
        (query.args[0], weights, biases) if biases else (query.args[0], weights),
        (fused,),
        {"widths": widths, "units": heads, **_selections(linears)},
        module,
        tuple(source for linear in linears for source in linear.sources),
    )
    create = Op(
        "create_qkv_heads",
        (fused,),
        tuple(split.outputs[0] for split in splits),
        {"heads": heads[0], "kv_heads": heads[1], "head_dim": splits[0].attrs["head_dim"]},
        common_module([split.module for split in splits]),
        tuple(source for split in splits for source in split.sources),
    )
    return linear, create, TensorSpec((*spec.shape[:-1], sum(widths)), spec.dtype)


def _in_order(ops: list[Op]) -> tuple[Op, ...]:
    """The ops with each after those it reads: fusing moves heads behind ops that came between the projections."""
    made_by = {out: op for op in ops for out in op.outputs}
    done: dict[int, Op] = {}

    def visit(op: Op) -> None:
        if id(op) in done:
            return
        for value in op.inputs:
            if value in made_by:
                visit(made_by[value])
        done[id(op)] = op

    for op in ops:
        visit(op)
    return tuple(done.values())


def _origin(value: str, producers: Mapping[str, Op]) -> Op | None:
    """The `split_heads` that `value` comes from."""
    op = producers.get(value)
    while op is not None and op.name in KEEPS_HEADS:
        value = op.args[op.outputs.index(value)]
        op = producers.get(value)
    return op if op is not None and op.name == "split_heads" else None
