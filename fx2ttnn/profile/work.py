"""What one op computes and moves: FLOPs and bytes, from the shapes of its values.

A FLOP is one addition or multiplication; any other function of an element (rsqrt, exp, silu) counts as one too. Formulas,
with x [.., K] of R rows (all dims but the last), query [B, H, S, D], key [B, Hkv, L, D] and value [B, Hkv, L, Dv]:

| op | FLOPs | why |
|---|---|---|
| linear, weight [N, K] | 2 R N K, and R N for a bias | a dot product of K terms is K multiplications and K additions |
| matmul [.., M, K] x [.., K, N] | 2 K for each element of the result | the same |
| attention | 2 B H S L (D + Dv), which is 4 B H S L D for Dv = D | query x key and probabilities x value; the softmax is left out, as is usual (PaLM, arXiv:2204.02311, appendix B) |
| rms_norm | 4 for each element | square, sum, times 1 / rms, times weight |
| layer_norm | 7 for each element | sum, less mean, square, sum, times 1 / sigma, times weight, plus bias |
| rotary | 3 for each element | x cos + rotated x sin |
| glu | 2 for each element | activation, product |
| embedding, position_table, update_cache, heads, collectives | 0 | they only move |
| any other, such as a plain ATen op | 1 for each element of its largest activation | views: 0 |

L is the whole cache, `max_seq_len`, or the window of sliding-window attention: every figure is that of a full cache. A decode step
holds a tile of rows, of which some may idle (see `Capture.users`): attention and the cache skip those, all other ops compute them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from fx2ttnn.graph.aten import base_name
from fx2ttnn.ir import Graph, Op
from fx2ttnn.ops import TABLE
from fx2ttnn.ops.table import elementwise_flops
from fx2ttnn.plan.gates import gate_parameters
from fx2ttnn.precision import Precision

Shape = tuple[int, ...]

VIEWS = {"view", "reshape", "transpose", "permute", "t", "unsqueeze", "squeeze", "expand", "slice", "select", "chunk", "split"} | {
    "alias", "detach", "contiguous", "clone", "to", "_to_copy", "cat"
}  # fmt: skip
MATMULS = {"matmul", "mm", "bmm"}
LOOKUPS = {"embedding", "position_table"}  # of a table they read the rows they give, no more
ID_BYTES = 4  # token ids and positions are uint32 on the device


@dataclass(frozen=True)
class Work:
    """Of one run of an op. Bytes: parameters and tables read, activations read and written, KV cache read and written."""

    flops: int
    parameter_bytes: float
    activation_bytes: float
    cache_bytes: float

    @property
    def bytes(self) -> float:
        return self.parameter_bytes + self.activation_bytes + self.cache_bytes

    @property
    def dram_bytes(self) -> float:
        """Bytes that must come from or go to DRAM: activations of a decode step stay in L1."""
        return self.parameter_bytes + self.cache_bytes

    @property
    def intensity(self) -> float:
        """FLOPs for each byte moved; 0 for an op that moves nothing."""
        return self.flops / self.bytes if self.bytes else 0.0


class Meter:
    """Measures ops of one graph at a precision.

    `users` of the graph's rows are in use, all of them by default. `shape` gives the shape of a value; by default that in the whole
    model.
    """

    def __init__(self, graph: Graph, precision: Precision, users: int = 0, shape: Callable[[str], Shape] | None = None):
        self._graph, self._precision, self._users = graph, precision, users
        self._shape = shape or (lambda value: graph.specs[value].shape)
        self._cached = {out for op in graph.ops if op.name == "update_cache" for out in op.outputs}
        self._weights, self._gates = _weights(graph), gate_parameters(graph)

    def work(self, op: Op) -> Work:
        """FLOPs and bytes of one run of `op`."""
        if all(value in self._weights for value in (*op.inputs, *op.outputs)):
            return Work(0, 0.0, 0.0, 0.0)  # a view of a parameter
        return Work(self._flops(op), self._parameter_bytes(op), self._activation_bytes(op), self._cache_bytes(op))

    def shape(self, value: str) -> Shape:
        """Of a value, on the whole mesh or on one chip."""
        return self._shape(value)

    def numel(self, value: str) -> int:
        """Elements of a value."""
        return prod(self._shape(value))

    def used(self, rows: int) -> int:
        """How many of `rows` are in use, on the fullest chip."""
        return min(rows, self._users or rows)

    def context(self, op: Op) -> int:
        """Positions that an attention reads."""
        length = self._shape(op.inputs[1])[2]
        return min(length, op.attrs.get("sliding_window") or length)

    def _flops(self, op: Op) -> int:
        if op.name in TABLE:
            return TABLE[op.name].flops(self, op)
        name = base_name(op)
        if name in MATMULS:
            return 2 * self.numel(op.outputs[0]) * self._shape(op.inputs[0])[-1]
        return 0 if name in VIEWS else elementwise_flops(self, op)

    def _parameter_bytes(self, op: Op) -> float:
        if op.name in LOOKUPS:
            return self.numel(op.outputs[0]) * self._precision.bytes_of("small")
        read = [(self.numel(v), role(self._shape(v), v in self._gates)) for v in op.inputs if v in self._weights]
        return sum(elements * self._precision.bytes_of(role_) for elements, role_ in read)

    def _activation_bytes(self, op: Op) -> float:
        values = [v for v in (*op.inputs, *op.outputs) if v not in self._weights and v not in self._cached]
        return sum(self.numel(v) * self._element_bytes(v) for v in values)

    def _element_bytes(self, value: str) -> float:
        is_id = "int" in self._graph.specs[value].dtype
        return ID_BYTES if is_id else self._precision.bytes_of("activations")

    def _cache_bytes(self, op: Op) -> float:
        if op.name == "update_cache":
            shapes = [self._shape(value) for value in op.inputs]
            elements = sum(self.used(rows) * prod(rest) for rows, *rest in shapes)
        else:
            elements = sum(self._read_of_cache(op, value) for value in op.inputs if value in self._cached)
        return elements * self._precision.bytes_of("cache")

    def _read_of_cache(self, op: Op, value: str) -> int:
        rows, heads, length, dim = self._shape(value)
        return self.used(rows) * heads * dim * (self.context(op) if op.name == "attention" else length)


def role(shape: Shape, of_gate: bool = False) -> str:
    """Role (see precision.py) of a parameter that is no lookup table: matrices are weights, vectors are small."""
    return ("gates" if of_gate else "weights") if len(shape) > 1 else "small"


def _weights(graph: Graph) -> set[str]:
    """Parameters, constants and their views."""
    found = {*graph.parameters, *graph.constants}
    for op in graph.ops:
        is_view = op.name.startswith("aten.") and base_name(op) in VIEWS
        if is_view and op.inputs and all(value in found for value in op.inputs):
            found |= set(op.outputs)
    return found
