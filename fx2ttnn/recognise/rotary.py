"""Every rotary embedding becomes one that turns the two halves of a whole head, of a size that ttnn's operations take; behind a norm of
each head one that turns neighbours, which ttnn computes together with the norm.

Attention does not change when the columns of queries and keys change places alike. So where only some columns of a head rotate,
or neighbours rotate instead of halves, the rows of the projections are put in another order when they are loaded: columns that
rotate together come to lie half a head apart, and those that do not rotate get a cosine of 1 and a sine of 0. Nothing is
computed for it at run time. The keys in the cache lie in that order too.

Nor does it change when columns of zeros are added to queries and keys; added to values, they are columns of zeros of its result,
of which the output projection's columns of zeros make nothing. So heads of any size become heads of whole tiles.

Heads of which some columns are the same for all (`concat_shared_rope`) become a sum: of heads with zeros for these columns and of one head with
zeros for the others.

`orders` of a linear holds for each of its weights None or an order of its outputs, `input_order` one of its inputs; norms have `order`,
the cache's update has `orders` of keys and values. An order is (head_dim, rotated, pairs, size), or for a weight that has only the
columns from start to stop of each head (head_dim, rotated, pairs, size, (start, stop)).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from fx2ttnn.graph.trace import refused
from fx2ttnn.ir import Graph, Op, Ref, TensorSpec
from fx2ttnn.ops import NORMS
from fx2ttnn.ops.stored import BESIDE, Order, columns, part_of, rotating
from fx2ttnn.recognise.alibi import wide_enough
from fx2ttnn.recognise.tables import append

_OF_HEADS = (*NORMS, "multiply_heads")


def whole_tiles(head_dim: int) -> int:
    """The size of head that ttnn's rotary embedding takes: halves of whole tiles, or one tile."""
    return 32 if head_dim <= 32 else -(-head_dim // 64) * 64


@dataclass(frozen=True)
class _Heads:
    """One attention's ops: with the order of the columns of each between query, key and their projections; the cache's update.

    `cached`: the order of keys as the model would cache them. Where zeros are added to values, `plain` is their order, `values` the ops
    from their projection to what joins heads, and `output` the projection behind it.
    """

    order: Order
    chain: list[tuple[Op, Order]]
    update: Op
    cached: Order
    plain: Order | None = None
    values: tuple[Op, ...] = ()
    output: Op | None = None


def align_heads(graph: Graph, neighbours: bool = False) -> Graph:
    """Rewrite projections, norms, tables and caches of each attention whose rotary embeddings or heads are of another form.

    With `neighbours`, columns that rotate together come to stand side by side wherever rotation is the last that is done to heads; else only where a
    norm stands before it.
    """
    producers, users = graph.producers(), graph.users()
    changed: dict[str, Op] = {}  # by first output
    tables: dict[tuple[str, Order, float], Op] = {}
    specs: dict[str, TensorSpec] = {}
    for attention in graph.ops:
        found = _heads(attention, graph, producers, users, neighbours) if attention.name == "attention" else None
        if found is None:
            continue
        for op, order in found.chain:
            args, attrs, name = op.args, dict(op.attrs), op.name
            if op.name == "rotary":
                args = (
                    op.args[0],
                    *(
                        _table(value, found.order, fill, producers, tables, specs, graph)
                        for value, fill in zip(op.args[1:], (1.0, 0.0), strict=True)
                    ),
                )
                attrs = {"beside": True} if found.order[2].endswith(BESIDE) else {}
            if op.name == "concat_shared_rope":
                name = "add"
            changed[op.outputs[0]] = _with_zeros(replace(op, name=name, args=args, attrs=attrs), order, graph, specs)
        update, plain = found.update, found.plain
        changed[update.outputs[0]] = replace(update, attrs={**update.attrs, "orders": (found.cached, plain)})
        _widen(update.outputs[0], found.order, graph, specs)
        if plain is not None and found.output is not None:
            _widen(update.outputs[1], plain, graph, specs)
            changed |= {op.outputs[0]: _with_zeros(op, plain, graph, specs) for op in found.values}
            output = found.output
            changed[output.outputs[0]] = replace(output, attrs={**output.attrs, "input_order": plain})
            _widen(output.args[1], plain, graph, specs)
    ops = (*tables.values(), *(changed.get(op.outputs[0], op) for op in graph.ops))
    return _with_stems(graph.with_ops(ops, specs))


def _heads(
    attention: Op, graph: Graph, producers: Mapping[str, Op], users: Mapping[str, list[Op]], neighbours: bool
) -> _Heads | None:
    """What is to be done for one attention.

    None where nothing is, or where another reader would see the columns in another order.
    """
    update = producers.get(attention.args[1])
    if update is None or update.name != "update_cache":
        return None
    reads = graph, producers, users
    query, value = _chain(attention.args[0], attention, *reads), _chain(update.args[1], update, *reads)
    key = _key(update, *reads)
    if query is None or key is None:
        refused(
            "align_heads",
            attention,
            "queries or keys come by more than projections, norms, rotary embeddings and scales",
        )
        return None
    head_dim, value_dim = (graph.specs[v].shape[-1] for v in update.args)
    forms = {_form(query, graph), _form([op for op, _ in key], graph)}
    rotated, pairs, gives = forms.pop()
    size = max(whole_tiles(head_dim), whole_tiles(value_dim))
    if "slopes" in attention.attrs:
        size = wide_enough(
            max(head_dim, value_dim),
            graph.specs[update.outputs[0]].shape[2],
            64 if any(op.name == "rotary" for op in query) else 32,
        )
    last = _turned if neighbours else _normed_and_turned
    beside = BESIDE if all(map(last, (query, [op for op, _ in key]))) else ""
    order = (head_dim, rotated, pairs + beside, size)
    shared = any(held for _, held in key)
    nothing = columns(order) == list(range(head_dim)) and value_dim == head_dim and not shared and not beside
    if forms or nothing:
        refused(
            "align_heads", attention, "queries and keys rotate differently" if forms else "heads are aligned already"
        )
        return None
    chain = [*((op, order) for op in query), *((op, (*order, held) if held else order) for op, held in key)]
    found = _Heads(order, chain, update, (head_dim, rotated, gives + beside, size))
    if size == head_dim == value_dim:
        return found
    readers = _readers(attention, users)
    alone = all(users[v] == [attention] for v in update.outputs)
    if value is None or not readers or not alone or any(op.name == "rotary" for op in value):
        refused("align_heads", attention, "what reads values or the result would see the columns of zeros")
        return None
    norms = [op for op in (*query, *(op for op, _ in key), *value) if op.name in NORMS]
    if any(op.name == "layer_norm" or len(op.args) == 1 for op in norms):
        refused(
            "align_heads", attention, "a norm counts columns of zeros: it has a mean, or no weight to make up for them"
        )
        return None
    plain = (value_dim, value_dim, "halves", size)
    return replace(found, plain=plain, values=(*value, attention, *readers[:-1]), output=readers[-1])


def _form(chain: list[Op], graph: Graph) -> tuple[int, str, str]:
    """How many columns of a head rotate, in which pairs, and how these lie behind the rotation. `chain`: from the head on backwards."""
    whole = graph.specs[chain[0].outputs[0]].shape[-1]
    rotary = next((op for op in chain if op.name == "rotary"), None)
    if rotary is None:
        return whole, "halves", "halves"
    turning, pairs = graph.specs[rotary.outputs[0]].shape[-1], rotary.attrs.get("pairs", "halves")
    rotated = -turning if chain[0].name == "concat_shared_rope" else rotary.attrs.get("rotated", turning)
    return rotated, pairs, rotary.attrs.get("gives", pairs)


def _turned(chain: list[Op]) -> bool:
    """Whether the last that is done to heads is their rotation. `chain`: from the head on backwards."""
    return [op.name for op in chain[:1]] == ["rotary"]


def _normed_and_turned(chain: list[Op]) -> bool:
    """Whether the last that is done to heads is an RMS norm of each and their rotation. `chain`: from the head on backwards."""
    return [op.name for op in chain[:2]] == ["rotary", "rms_norm"] and len(chain[1].args) > 1


def _key(
    update: Op, graph: Graph, producers: Mapping[str, Op], users: Mapping[str, list[Op]]
) -> list[tuple[Op, tuple[int, int] | None]] | None:
    """`_chain` of the key; of one with shared columns those of both its parts, and which columns of the head each op has."""
    value = update.args[0]
    join = producers.get(value)
    if join is None or join.name != "concat_shared_rope":
        chain = _chain(value, update, graph, producers, users)
        return None if chain is None else [(op, None) for op in chain]
    own, shared = (_chain(v, join, graph, producers, users) for v in join.args)
    if value in graph.outputs or users[value] != [update] or own is None or shared is None:
        return None
    if any(op.name in _OF_HEADS for op in (*own, *shared)) or any(op.name == "rotary" for op in own):
        return None
    head_dim, middle = graph.specs[value].shape[-1], graph.specs[join.args[0]].shape[-1]
    return [(join, None), *((op, (0, middle)) for op in own), *((op, (middle, head_dim)) for op in shared)]


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
        if op.name not in ("rotary", "split_heads", "scale", *_OF_HEADS):
            return None
        found.append(op)
        value, reader = op.args[0], op


def _readers(attention: Op, users: Mapping[str, list[Op]]) -> list[Op]:
    """The op that joins heads and the output projection, if nothing else reads what attention gives."""
    found = [attention]
    for name in ("concat_heads", "linear"):
        readers = users.get(found[-1].outputs[0], [])
        if [op.name for op in readers] != [name] or readers[0].args[0] != found[-1].outputs[0]:
            return []
        found += readers
    return found[1:]


def _with_zeros(op: Op, order: Order, graph: Graph, specs: dict[str, TensorSpec]) -> Op:
    """`op` for heads in `order`; `specs` get the shapes of what it gives and of its weights.

    The mean over columns is less by the share of zeros, and so must be what is added to it; the weight makes up for it.
    """
    head_dim, size = order[0], order[3]
    attrs = dict(op.attrs)
    if op.name == "linear":
        attrs["orders"] = (order,)
    elif op.name in _OF_HEADS:
        attrs["order"] = order
        if op.name in NORMS and size > head_dim:
            attrs["eps"] *= head_dim / size
    elif "head_dim" in attrs:
        attrs["head_dim"] = size
    for value in op.outputs:
        _widen(value, order, graph, specs)
    for value in op.inputs:
        if value in graph.parameters and op.name != "attention":  # its sinks have one number for each head
            _widen(value, order, graph, specs, 0 if op.name == "linear" else -1)
    return replace(op, attrs=attrs)


def _widen(value: str, order: Order, graph: Graph, specs: dict[str, TensorSpec], dim: int = -1) -> None:
    """Heads along `dim` of `value` get columns of zeros."""
    shape = list(graph.specs[value].shape)
    start, stop = part_of(order)
    shape[dim] = shape[dim] // (stop - start) * order[3]
    specs[value] = replace(graph.specs[value], shape=tuple(shape))


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
        size, rotated = order[3], rotating(order)
        table: Graph = op.attrs["table"]
        last, whole = table.outputs[0], replace(spec, shape=(*spec.shape[:-1], size))
        picked = [column - rotated.start if column in rotated else len(rotated) for column in columns(order)]
        if len(rotated) in picked:
            pad = Op("aten.constant_pad_nd.default", (Ref(last), (0, 1), fill), (f"{last}_padded",))
            padded = replace(spec, shape=(*spec.shape[:-1], len(rotated) + 1))
            table, last = append(table, pad, padded), pad.outputs[0]
        index = {"column_order": torch.tensor(picked)}
        spec_of_index = {"column_order": TensorSpec((size,), "int64")}
        pick = Op("aten.index_select.default", (Ref(last), -1, Ref("column_order")), (f"{last}_ordered",))
        table = append(table, pick, whole, index)
        table = table.with_ops(table.ops, spec_of_index)
        out = f"{value}_aligned_{len(made)}"
        beside = {"beside": True} if order[2].endswith(BESIDE) else {}
        specs[out] = whole
        made[key] = replace(op, outputs=(out,), attrs={**op.attrs, "table": table, "order": order, **beside})
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
