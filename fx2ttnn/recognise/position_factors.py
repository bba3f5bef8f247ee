"""Heads that are multiplied by one number for each position, as where queries grow with the length of a text and nothing rotates."""

from __future__ import annotations

from dataclasses import replace

import torch

from fx2ttnn.graph import interpret
from fx2ttnn.ir import Graph, Op, Ref, TensorSpec, rename
from fx2ttnn.names import layer_of
from fx2ttnn.recognise.match import A, match, pattern_name, var
from fx2ttnn.recognise.tables import POSITIONS, append

_SCALED = A.mul(var("x"), A.unsqueeze(var("factor"), 1))


def multiply_by_positions(graph: Graph, max_seq_len: int) -> Graph:
    """Replace `mul(x [B, H, S, D], unsqueeze(table [B, S, 1], 1))` by `scale_positions(x, table [B, S, D])`, or by x if all factors are 1.

    A table that a layer computes is looked up before the layers, with those that they all read; where there are none, it stays as it was.
    """
    producers = graph.producers()
    shared = next((op.module for op in graph.ops if op.name == "position_table" and not layer_of(op.module)), None)
    specs = dict(graph.specs)
    renamed: dict[str, str] = {}
    made: dict[tuple[str, int], Op] = {}
    ops: list[Op] = []
    for op in graph.ops:
        op = replace(op, args=rename(op.args, renamed))
        found = match(_SCALED, Ref(op.outputs[0]), producers, {}) if pattern_name(op.name) == "mul" else None
        table = producers.get(found["factor"]) if found else None
        if not found or table is None or table.name != "position_table" or specs[found["factor"]].shape[2:] != (1,):
            ops.append(op)
            continue
        x: str = found["x"]
        if _is_one(table.attrs["table"], max_seq_len):
            renamed[op.outputs[0]] = renamed.get(x, x)
            continue
        module = shared if layer_of(table.module) else table.module
        if module is None:
            ops.append(op)
            continue
        key = table.outputs[0], specs[op.outputs[0]].shape[-1]
        if key not in made:
            stem = f"factors_{len(made) + 1}" if made else "factors"
            made[key] = replace(_widened(table, key[1], stem, specs), module=module)
        factors = made[key].outputs[0]
        ops.append(replace(op, name="scale_positions", args=(Ref(renamed.get(x, x)), Ref(factors))))
    return replace(graph, ops=(*made.values(), *ops), specs=specs)


def _is_one(table: Graph, max_seq_len: int) -> bool:
    """Whether the factor of every position is 1."""
    if table.inputs != (POSITIONS,):
        return False
    users, tokens = table.specs[POSITIONS].shape
    for start in range(0, max_seq_len, users * tokens):
        positions = torch.arange(start, start + users * tokens).clamp(max=max_seq_len - 1).reshape(users, tokens)
        if not bool((interpret.run(table, {POSITIONS: positions}, {})[0] == 1).all()):
            return False
    return True


def _widened(table: Op, width: int, stem: str, specs: dict[str, TensorSpec]) -> Op:
    """The table [B, S, 1] with `width` equal columns."""
    value, out = table.outputs[0], f"{table.outputs[0]}_of_{width}"
    specs[out] = replace(specs[value], shape=(*specs[value].shape[:2], width))
    last = table.attrs["table"].outputs[0]
    spread = Op("aten.expand.default", (Ref(last), specs[out].shape), (f"{last}_of_{width}",))
    attrs = {**table.attrs, "stem": stem, "factor": True, "table": append(table.attrs["table"], spread, specs[out])}
    return replace(table, outputs=(out,), attrs=attrs)
