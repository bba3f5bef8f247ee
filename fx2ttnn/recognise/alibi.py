"""ALiBi, scores that grow with a key's position by a slope of each head, as columns of wider heads: plain attention gives the bias.

The product of these columns is s (j - i), for a key at position j, a query at i, and s the head's slope over the scale of scores:

    keys      digits of j to base 128, each twice    ones
    queries   128^n s, in two parts of 8 bits        -16^n s times the digits of i to base 16, for three parts of s of 4 bits

bfloat16 holds each of these numbers exactly, and bfloat8_b those of keys: whole numbers below 128, in a block with no other columns.
Softmax does not see -s i, which is the same for all keys; it keeps the scores of near keys small, so that rounding does not hide them.

`add_slopes` puts the parts of s into columns of zeros, which `rotary.align_heads` makes; a table of positions multiplies them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from fx2ttnn.ir import Graph, Op, Ref, TensorSpec
from fx2ttnn.names import layer_of
from fx2ttnn.recognise.tables import POSITIONS

_BITS = ((8, 2), (4, 3))  # of the parts of a slope, and how many parts: by digits of the key, and of the query
_BASES = (128, 16)
_BLOCK = 16  # columns of a block of bfloat8_b
_NO_ROOM = "its bias goes into columns that are added to heads, and these heads cannot be widened"


@dataclass(frozen=True)
class _Columns:
    """Columns of a head of `size` from `first` on: for `digits` of keys and of queries."""

    first: int
    size: int
    digits: tuple[int, int]

    @property
    def count(self) -> int:
        return sum(digits * parts for digits, (_, parts) in zip(self.digits, _BITS, strict=True))


def _columns(head_dim: int, size: int, length: int) -> _Columns:
    """Behind the first half of the head, where zeros stand (see rotary.py), in blocks that have no other columns."""
    digits = [next(n for n in range(1, 64) if base**n >= length) for base in _BASES]
    return _Columns(-(-head_dim // 2 // _BLOCK) * _BLOCK, size, (digits[0], digits[1]))


def wide_enough(head_dim: int, length: int, multiple: int) -> int:
    """The smallest size of head, a multiple of `multiple`, with room for the columns of `length` positions."""
    columns = _columns(head_dim, 0, length)
    return -(-2 * (columns.first + columns.count) // multiple) * multiple


def positions_in_columns(graph: Graph) -> Graph:
    """Replace each attention with `slopes` by one without, over keys plus a table and queries, plus slopes, times a table.

    Where heads are not as wide as that takes, it becomes `alibi_attention`, which no rule takes. `positions` of the cache's update is
    the table of keys.
    """
    producers = graph.producers()
    tables: dict[_Columns, tuple[Op, Op]] = {}
    specs: dict[str, TensorSpec] = {}
    changed: dict[str, tuple[Op, ...]] = {}  # by first output
    for op in graph.ops:
        if op.name != "attention" or "slopes" not in op.attrs:
            continue
        update = producers.get(op.args[1])
        columns = _room(update, graph)
        if update is None or columns is None:
            changed[op.outputs[0]] = (replace(op, name="alibi_attention", attrs={**op.attrs, "why": _NO_ROOM}),)
            continue
        (q, *rest), (k, v) = op.args, update.args
        if columns not in tables:
            number = f"_{len(tables) + 1}" if tables else ""
            tables[columns] = _table("keys", columns, number, op, graph), _table("queries", columns, number, op, graph)
        keys, queries = tables[columns]
        attrs = dict(op.attrs)
        slopes = attrs.pop("slopes")
        placed_k, sloped_q, placed_q = Ref(f"{k}_placed"), Ref(f"{q}_sloped"), Ref(f"{q}_placed")
        specs |= {placed_k: graph.specs[k], sloped_q: graph.specs[q], placed_q: graph.specs[q]}
        form = {
            "slopes": slopes,
            "scaling": op.attrs["scaling"],
            "first": columns.first,
            "digits": columns.digits,
            "parts": _BITS,
            "size": columns.size,
        }
        changed[update.outputs[0]] = (
            Op("add", (k, Ref(keys.outputs[0])), (placed_k,), {}, op.module, op.sources),
            replace(update, args=(placed_k, v), attrs={**update.attrs, "positions": keys.attrs["stem"]}),
        )
        changed[op.outputs[0]] = (
            Op("add_slopes", (q,), (sloped_q,), form, op.module, op.sources),
            Op("scale_positions", (sloped_q, Ref(queries.outputs[0])), (placed_q,), {}, op.module, op.sources),
            replace(op, args=(placed_q, *rest), attrs=attrs),
        )
    made = [table for pair in tables.values() for table in pair]
    specs |= {table.outputs[0]: table.attrs["table"].specs[table.attrs["table"].outputs[0]] for table in made}
    return graph.with_ops((*made, *(new for op in graph.ops for new in changed.get(op.outputs[0], (op,)))), specs)


def _room(update: Op | None, graph: Graph) -> _Columns | None:
    """The columns of the heads that go into a cache, if these have been widened for them."""
    if update is None or not update.attrs.get("orders"):
        return None
    head_dim, *_, size = update.attrs["orders"][0]
    columns = _columns(head_dim, size, graph.specs[update.outputs[0]].shape[2])
    return columns if columns.first + columns.count <= size // 2 else None


def _table(of: str, columns: _Columns, number: str, attention: Op, graph: Graph) -> Op:
    """What each position adds to keys, [B, 1, S, D], or multiplies queries with, [B, S, D]; looked up before the layers."""
    places, factors, others = _numbers(of, columns)
    base = _BASES[0 if of == "keys" else 1]
    users, tokens = graph.specs[POSITIONS].shape
    narrow, shape = (users, tokens, columns.count), (users, tokens, columns.size)
    around = (columns.first, columns.size - columns.first - columns.count)
    ops = [
        Op("aten.unsqueeze.default", (Ref(POSITIONS), -1), ("position",)),
        Op("aten.floor_divide.default", (Ref("position"), Ref("places")), ("upper",)),
        Op("aten.remainder.Scalar", (Ref("upper"), base), ("digits",)),
        Op("aten.mul.Tensor", (Ref("digits"), Ref("factors")), ("weighed",)),
        Op("aten.add.Tensor", (Ref("weighed"), Ref("others")), ("own",)),
        Op("aten.constant_pad_nd.default", (Ref("own"), around, 0.0 if of == "keys" else 1.0), ("columns",)),
    ]
    specs = {POSITIONS: graph.specs[POSITIONS], "position": TensorSpec((users, tokens, 1), "int64")}
    specs |= {name: TensorSpec(narrow, "int64") for name in ("upper", "digits")}
    specs |= {name: TensorSpec(narrow) for name in ("weighed", "own")} | {"columns": TensorSpec(shape)}
    if of == "keys":
        ops.append(Op("aten.unsqueeze.default", (Ref("columns"), 1), ("of_all_heads",)))
        specs["of_all_heads"] = TensorSpec((users, 1, tokens, columns.size))
    constants = {"places": places, "factors": factors.float(), "others": others.float()}
    stem = f"positions_of_{of}{number}"
    table = Graph(stem, (POSITIONS,), ops[-1].outputs, tuple(ops), specs, {}, constants)
    layers = (layer_of(attention.module) or "").rpartition(".")[0]
    module = ".".join(part for part in (layers.rpartition(".")[0], "alibi") if part)
    attrs = {"stem": stem, "table": table, "border": 0, "factor": True}
    return Op("position_table", (Ref(POSITIONS),), (f"alibi_{stem}",), attrs, module, attention.sources)


def _numbers(of: str, columns: _Columns) -> torch.Tensor:
    """For each column the place of the digit that it holds, what multiplies that, and what is added, [3, columns]."""
    keys, queries = (
        [base**place for place in range(digits) for _ in range(parts)]
        for base, digits, (_, parts) in zip(_BASES, columns.digits, _BITS, strict=True)
    )
    if of == "keys":
        found = [*((place, 1, 0) for place in keys), *((1, 0, 1) for _ in queries)]
    else:
        found = [*((1, 0, place) for place in keys), *((place, -place, 0) for place in queries)]
    return torch.tensor(found).T
