"""Heads stand before tokens as soon as there are heads: what works on the last dim commutes with swapping two others.

A model may normalise or rotate heads [B, S, H, D] before it swaps S and H. The patterns then need to know one form only.
"""

from __future__ import annotations

from dataclasses import replace

from fx2ttnn.graph.aten import is_pointwise
from fx2ttnn.ir import Graph, Op, Ref, TensorSpec, rename
from fx2ttnn.recognise.match import pattern_name

_DIM = {"slice": 1, "cat": 1, "stack": 1, "flatten": 1, "mean": 1, "repeat_interleave": 2}  # where their dim stands
_MAKES_HEADS = {"view", "select", "split", "split_with_sizes", "chunk"}


def heads_first(graph: Graph) -> Graph:
    """Replace `transpose(f(x [B, S, H, D]), 1, 2)` by `f(transpose(x, 1, 2))` for every f that works on the last dim.

    So for a product with a parameter [H, D], which becomes `multiply_heads` of [B, H, S, D].
    """
    return _Rewrite(graph).run()


class _Rewrite:
    def __init__(self, graph: Graph) -> None:
        self.graph, self.producers = graph, graph.producers()
        self.specs = dict(graph.specs)
        self.ops: list[Op] = []
        self.swapped: dict[str, str] = {}  # a value -> the same with heads first

    def run(self) -> Graph:
        renamed: dict[str, str] = {}
        for op in self.graph.ops:
            if _is_swap(op) and self._worthwhile(op.args[0]):
                renamed[op.outputs[0]] = self._swap(op.args[0], op)
            else:
                self.ops.append(replace(op, args=rename(op.args, renamed)))
        outputs = tuple(renamed.get(value, value) for value in self.graph.outputs)
        return replace(self.graph, ops=tuple(self.ops), outputs=outputs, specs=self.specs)

    def _worthwhile(self, value: str) -> bool:
        """Whether something computes between `value` and what makes its heads, and nothing else would have to be swapped."""
        return self._commutes(value) and self._all_from_heads(value)

    def _all_from_heads(self, value: str) -> bool:
        op = self.producers.get(value)
        if self._commutes(value):
            assert op is not None
            return all(self._all_from_heads(v) for v in op.inputs if self._rank(v) >= 4)
        return op is not None and (
            _spreads(op) or (op.name.startswith("aten.") and pattern_name(op.name) in _MAKES_HEADS)
        )

    def _rank(self, value: str) -> int:
        return len(self.graph.specs[value].shape)

    def _commutes(self, value: str) -> bool:
        """Whether `value` [B, S, H, ...] comes of an op that works on dims behind the third, of values of such dims or of vectors."""
        op = self.producers.get(value)
        if op is None or not op.name.startswith("aten.") or self._rank(value) < 4:
            return False
        if self._weight_of_heads(op):
            return True
        ranks = [self._rank(v) for v in op.inputs]
        if any(rank in (2, 3) for rank in ranks) or max(ranks, default=0) < 4:
            return False
        name = op.name.split(".")[1]
        if name in ("layer_norm", "rms_norm"):
            return len(op.args[1]) == 1
        if name in _DIM:
            dims = op.args[_DIM[name]] if len(op.args) > _DIM[name] else 0
            rank = self._rank(value) if name == "stack" else max(ranks)
            return all(dim % rank >= 3 for dim in (dims if isinstance(dims, tuple) else (dims,)))
        return is_pointwise(op)

    def _weight_of_heads(self, op: Op) -> Ref | None:
        """The parameter [H, D] with which `op` multiplies [B, S, H, D]."""
        shape = self.graph.specs[op.outputs[0]].shape
        weights = [v for v in op.inputs if v in self.graph.parameters and self.graph.specs[v].shape == shape[2:]]
        return Ref(weights[0]) if op.name == "aten.mul.Tensor" and len(shape) == 4 and len(weights) == 1 else None

    def _swap(self, value: str, reader: Op) -> str:
        """The name of `value` with its dims 1 and 2 swapped; appends what computes it."""
        if value in self.swapped:
            return self.swapped[value]
        op, out = self.producers[value], Ref(f"{value}_heads")
        shape = self.graph.specs[value].shape
        self.specs[out] = TensorSpec((shape[0], shape[2], shape[1], *shape[3:]), self.graph.specs[value].dtype)
        if weight := self._weight_of_heads(op):
            (x,) = (v for v in op.inputs if v != weight)
            self.ops.append(
                replace(op, name="multiply_heads", args=(Ref(self._swap(x, reader)), weight), outputs=(out,))
            )
        elif self._commutes(value):
            names = {v: self._swap(v, reader) for v in op.inputs if self._rank(v) >= 4}
            self.ops.append(replace(op, args=rename(op.args, names), outputs=(out,)))
        elif _spreads(op):
            self.ops.append(replace(op, args=(op.args[0], 1), outputs=(out,)))
        else:
            self.ops.append(replace(reader, args=(Ref(value), 1, 2), outputs=(out,)))
        self.swapped[value] = out
        return out


def _is_swap(op: Op) -> bool:
    return op.name == "aten.transpose.int" and op.args[1:] == (1, 2)


def _spreads(op: Op) -> bool:
    """An `unsqueeze` of [B, S, X] for all heads."""
    return op.name == "aten.unsqueeze.default" and op.args[1] == 2
