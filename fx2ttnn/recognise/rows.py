"""Tokens in rows, [B * S, ..], become [B, S, ..] again: a view that merges users and tokens commutes with what works row by row.

Routers and shared experts are often written on rows; behind this step they look like any other part of a layer.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fx2ttnn.graph.aten import is_pointwise
from fx2ttnn.ir import Graph, Op, Ref, rename
from fx2ttnn.recognise.match import pattern_name

# Where these have their dim, or dims, among their arguments.
_DIM = {
    **dict.fromkeys(("softmax", "sum", "mean", "max", "gather", "scatter", "cumsum", "slice", "unsqueeze", "cat"), 1),
    **dict.fromkeys(("topk", "split", "split_with_sizes", "chunk"), 2),
}
_PRODUCTS = {"linear", "addmm", "mm", "experts"}
_ROW_BY_ROW = {*_PRODUCTS, "layer_norm", "zeros_like", "full_like", "to", "clone", "contiguous"}


def separate_rows(graph: Graph) -> Graph:
    """The graph with all that is made row by row from tokens in rows as [B, S, ..]; their dims count from the end.

    An op that does more than that still reads rows, from a view made for it. An `addmm` or `mm` may then have an input of three
    dims: `transposed_weights` is to follow.
    """
    return _Separation(graph).run()


class _Separation:
    def __init__(self, graph: Graph):
        self.graph, self.specs = graph, dict(graph.specs)
        self.whole: dict[str, str] = {}  # value in rows -> the same as [B, S, ..]
        self.split: dict[str, str] = {}  # what a view made of rows -> the same value, which needs no view now
        self.ops: list[Op] = []

    def run(self) -> Graph:
        for op in self.graph.ops:
            self._op(op)
        outputs = tuple(self.split.get(value, value) for value in self.graph.outputs)
        return replace(self.graph, ops=tuple(self.ops), outputs=outputs, specs=self.specs)

    def _op(self, op: Op) -> None:
        attrs = {k: Ref(self.split.get(v, v)) if isinstance(v, Ref) else v for k, v in op.attrs.items()}
        op = replace(op, args=rename(op.args, self.split), attrs=attrs)
        rows = [value for value in op.inputs if value in self.whole]
        if rows and pattern_name(op.name) == "view" and self._shape(op.outputs[0]) == self._shape(self.whole[rows[0]]):
            self.split[op.outputs[0]] = self.whole[rows[0]]
        elif rows and (args := self._args(op, rows)) is not None:
            outputs = tuple(f"{out}_apart" for out in op.outputs)
            self.ops.append(replace(op, args=rename(args, self.whole), outputs=outputs))
            for out, apart in zip(op.outputs, outputs, strict=True):
                shape = (*self._users_and_tokens(rows[0]), *self._shape(out)[1:])
                self.specs[apart] = replace(self.specs[out], shape=shape)
                self.whole[out] = apart
        else:
            for value in rows:
                self._put_in_rows(value)
            self.ops.append(op)
            if pattern_name(op.name) == "view" and self._merges(op):
                self.whole[op.outputs[0]] = op.args[0]

    def _shape(self, value: str) -> tuple[int, ...]:
        return self.specs[value].shape

    def _users_and_tokens(self, rows: str) -> tuple[int, ...]:
        return self._shape(self.whole[rows])[:2]

    def _merges(self, op: Op) -> bool:
        """Whether the view takes something computed, [B, S, ..], to [B * S, ..]."""
        before, after = self._shape(op.args[0]), self._shape(op.outputs[0])
        computed = op.args[0] not in self.graph.parameters and op.args[0] not in self.graph.constants
        heads = len(after) > 2 and after[:2] == before[:2]  # a single head of a single token goes, not the token
        return computed and len(before) > 2 and after == (before[0] * before[1], *before[2:]) and not heads

    def _put_in_rows(self, value: str) -> None:
        """For an op that must have the value in rows."""
        if not any(value in op.outputs for op in self.ops):
            shape = self._shape(value)
            self.ops.append(Op("aten.view.default", (Ref(self.whole[value]), shape), (value,)))

    def _args(self, op: Op, rows: list[str]) -> tuple[Any, ...] | None:
        """The arguments of the op on [B, S, ..]; None for one that does more than work row by row."""
        tokens = {self._users_and_tokens(value) for value in rows}
        count = self._shape(rows[0])[0]
        others = [v for v in op.inputs if v not in self.whole]
        if len(tokens) > 1 or not all(self._is_the_same_for_all(v, op) for v in others):
            return None
        name = pattern_name(op.name)
        if name in ("view", "expand"):
            kept = self._shape(op.args[0])[0] == self._shape(op.outputs[0])[0] == count
            return (op.args[0], (*tokens.pop(), *self._shape(op.outputs[0])[1:])) if kept else None
        if name == "index" and op.args[0] in others and len(op.args[1]) == 1:
            return op.args  # numbers of a vector, looked up by each token
        if name in _DIM:
            return self._with_dims_from_the_end(op, _DIM[name], len(self._shape(rows[0])))
        alike = len({len(self._shape(value)) for value in rows}) == 1  # else a vector of tokens meets one of columns
        return op.args if name in _ROW_BY_ROW or (alike and is_pointwise(op)) else None

    def _is_the_same_for_all(self, value: str, op: Op) -> bool:
        """Whether an operand without tokens means the same to each of them: a weight, or a vector for the last dim."""
        shape = self._shape(value)
        return pattern_name(op.name) in _PRODUCTS or all(size == 1 for size in shape[:-1])

    def _with_dims_from_the_end(self, op: Op, place: int, rank: int) -> tuple[Any, ...] | None:
        if len(op.args) <= place:
            return op.args if pattern_name(op.name) == "topk" else None
        given = op.args[place]
        total = rank + (pattern_name(op.name) == "unsqueeze")
        dims = tuple(dim % total - total for dim in (given if isinstance(given, tuple) else (given,)))
        if not dims or any(dim == -total for dim in dims):
            return None  # over the tokens
        return (*op.args[:place], dims if isinstance(given, tuple) else dims[0], *op.args[place + 1 :])
