"""Every rotary embedding becomes one that turns the two halves of a whole head.

Attention does not change when the columns of queries and keys change places alike. So where only some columns of a head rotate,
or neighbours rotate instead of halves, the rows of the projections are put in another order when they are loaded: columns that
rotate together come to lie half a head apart, and those that do not rotate get a cosine of 1 and a sine of 0. Nothing is
computed for it at run time. The keys in the cache lie in that order too.

`orders` of a linear holds for each of its weights None or an order (head_dim, rotated, pairs); norms of heads have `order`,
the cache's update has `key_order`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from fx2ttnn.ir import Graph, Op, Ref, TensorSpec
from fx2ttnn.recognise.tables import append

Order = tuple[int, int, str]  # columns of a head, how many of them rotate, and which in pairs: "halves" or "neighbours"
_NORMS = ("rms_norm", "layer_norm")


def columns(order: Order) -> list[int]:
    """The columns of a head in the order in which column i and the one half a head behind it rotate together."""
    head_dim, rotated, pairs = order
    turning, rest = list(range(rotated)), list(range(rotated, head_dim))
    half, middle = rotated // 2, len(rest) // 2
    first, second = (turning[0::2], turning[1::2]) if pairs == "neighbours" else (turning[:half], turning[half:])
    return [*first, *rest[:middle], *second, *rest[middle:]]


def align_rotary(graph: Graph) -> Graph:
    """Rewrite the projections, norms and tables of each attention whose rotary embeddings are of another form."""
    producers, users = graph.producers(), graph.users()
    changed: dict[str, Op] = {}  # by first output
    tables: dict[tuple[str, Order, float], Op] = {}
    specs: dict[str, TensorSpec] = {}
    for attention in graph.ops:
        found = _chains(attention, graph, producers, users) if attention.name == "attention" else None
        if found is None:
            continue
        order, chain, update = found
        for op in chain:
            if op.name == "rotary":
                args = tuple(
                    _table(value, order, fill, producers, tables, specs, graph)
                    for value, fill in zip(op.args[1:], (1.0, 0.0), strict=True)
                )
                changed[op.outputs[0]] = replace(op, args=(op.args[0], *args), attrs={})
            else:
                key, value = ("orders", (order,)) if op.name == "linear" else ("order", order)
                changed[op.outputs[0]] = replace(op, attrs={**op.attrs, key: value})
        changed[update.outputs[0]] = replace(update, attrs={**update.attrs, "key_order": order})
    ops = (*tables.values(), *(changed.get(op.outputs[0], op) for op in graph.ops))
    return _with_stems(graph.with_ops(ops, specs))


def _chains(attention: Op, graph: Graph, producers: Mapping[str, Op], users: Mapping[str, list[Op]]):
    """The order of the columns, the ops between query and key and their projections, and the update of the cache.

    None where nothing is to be done, or where another reader would see the columns in another order.
    """
    update = producers.get(attention.args[1])
    if update is None or update.name != "update_cache":
        return None
    chain: list[Op] = []
    forms = set()
    for value, reader in ((attention.args[0], attention), (update.args[0], update)):
        ops = _chain(value, reader, graph, producers, users)
        if ops is None:
            return None
        chain += ops
        rotary = next((op for op in ops if op.name == "rotary"), None)
        head_dim = graph.specs[value].shape[-1]
        attrs = rotary.attrs if rotary else {}
        forms.add((head_dim, attrs.get("rotated", head_dim), attrs.get("pairs", "halves")) if rotary else None)
    order = forms.pop()
    if forms or order is None or columns(order) == list(range(order[0])):
        return None
    return order, chain, update


def _chain(
    value: str, reader: Op, graph: Graph, producers: Mapping[str, Op], users: Mapping[str, list[Op]]
) -> list[Op] | None:
    """The ops from a linear to `value`, of which only `reader` and they themselves read anything."""
    found: list[Op] = []
    while True:
        op = producers.get(value)
        if op is None or value in graph.outputs or [id(user) for user in users[value]] != [id(reader)]:
            return None
        if op.name == "linear":
            return [*found, op]
        if op.name not in ("rotary", "split_heads", *_NORMS):
            return None
        if op.name != "split_heads":
            found.append(op)
        value, reader = op.args[0], op


def _table(
    value: str,
    order: Order,
    fill: float,
    producers: Mapping[str, Op],
    made: dict[tuple[str, Order, float], Op],
    specs: dict[str, TensorSpec],
    graph: Graph,
) -> Ref:
    """The table `value` for whole heads in `order`; what does not rotate reads `fill`."""
    key = (value, order, fill)
    if key not in made:
        op, spec = producers[value], graph.specs[value]
        head_dim, rotated, _ = order
        table: Graph = op.attrs["table"]
        last, whole = table.outputs[0], replace(spec, shape=(*spec.shape[:-1], head_dim))
        if rotated < head_dim:
            pad = Op("aten.constant_pad_nd.default", (Ref(last), (0, head_dim - rotated), fill), (f"{last}_padded",))
            table, last = append(table, pad, whole), pad.outputs[0]
        index = {"column_order": torch.tensor(columns(order))}
        spec_of_index = {"column_order": TensorSpec((head_dim,), "int64")}
        pick = Op("aten.index_select.default", (Ref(last), -1, Ref("column_order")), (f"{last}_ordered",))
        table = append(table, pick, whole, index)
        table = table.with_ops(table.ops, spec_of_index)
        out = f"{value}_aligned_{len(made)}"
        specs[out] = whole
        made[key] = replace(op, outputs=(out,), attrs={**op.attrs, "table": table, "order": order})
    return Ref(made[key].outputs[0])


def _with_stems(graph: Graph) -> Graph:
    """Tables that are read have names of their own: one that was replaced for all its readers leaves its name to the new one."""
    read = {value for op in graph.ops for value in op.inputs} | set(graph.outputs)
    taken: set[str] = set()
    ops: list[Op] = []
    for op in graph.ops:
        if op.name == "position_table":
            if op.outputs[0] not in read:
                continue
            op = replace(op, attrs={**op.attrs, "stem": _free(op.attrs["stem"], taken)})
            taken.add(op.attrs["stem"])
        ops.append(op)
    return graph.with_ops(tuple(ops))


def _free(stem: str, taken: set[str]) -> Any:
    return next(name for name in (stem, *(f"{stem}_{n}" for n in range(2, len(taken) + 3))) if name not in taken)
