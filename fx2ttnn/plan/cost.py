"""Predicted time of an operation or a collective as the planner sees it, before its ttnn calls are known, in seconds.

The formulas are those by which the calls are priced (fx2ttnn/cost/), of the family that such an operation is lowered to. What depends on
the row that takes it, such as moves between memories, is left out: these times rank plans, and no report shows them.
"""

from __future__ import annotations

from math import inf, prod

from fx2ttnn.cost.kernels import FIXED, PER_MICROSECOND, Kernel, Kernels, ring_of
from fx2ttnn.ir import Graph, Op, Placement
from fx2ttnn.names import layer_of
from fx2ttnn.ops import NORMS
from fx2ttnn.plan.collectives import Step
from fx2ttnn.plan.device_shape import local_shape
from fx2ttnn.plan.gates import gates
from fx2ttnn.precision import PRECISIONS, Precision, fidelity_on
from fx2ttnn.targets import Target, core_count
from fx2ttnn.tiles import TILE, tiles

# ttnn's classes of what keeps a few rows in L1; any other is taken for one without a measurement.
_CLASSES = {
    "rotary": "RotaryEmbeddingHf",
    "update_cache": "PagedFusedUpdateCache",
    "add": "BinaryNg",
    "glu": "BinaryNg.activation",
    "position_table": "Embeddings",
    "embedding": "Embeddings",
}


class Cost:
    """Times on one target, of a graph for so many users with full caches."""

    def __init__(self, graph: Graph, users: int, target: Target, precision: Precision):
        self.graph, self.users, self.target, self.precision = graph, users, target, precision
        self.kernels = Kernels(target)
        self.prefill = graph.name == "prefill"
        self.ring = None if self.prefill else target.working_prefetcher
        self.tokens = graph.specs[graph.inputs[0]].shape[1] if self.prefill else 1  # of a chunk
        self.gates = gates(graph)
        self.of_matmuls = {op.outputs[0] for op in graph.ops if op.name == "linear"}
        self.for_heads = {op.inputs[0] for op in graph.ops if op.name == "create_qkv_heads"}
        self.in_layers = {v for op in graph.ops if layer_of(op.module) for v in (*op.inputs, *op.outputs)}
        self._known: dict[tuple[str, tuple[Placement, ...]], float] = {}

    def op(self, op: Op, inputs: tuple[Placement, ...]) -> float:
        """Time of `op` when its inputs lie as given."""
        key = (op.outputs[0], inputs)
        if key not in self._known:
            self._known[key] = self._op(op, inputs)
        return self._known[key]

    def _op(self, op: Op, inputs: tuple[Placement, ...]) -> float:
        shapes = [
            local_shape(self.graph.specs[value], placement, self.target.mesh_shape)
            for value, placement in zip(op.inputs, inputs, strict=True)
        ]
        if op.name == "linear":
            found = self._linear(op, shapes)
        elif op.name == "attention":
            found = [self._attention(shapes)]
        elif op.name in NORMS:
            found = self._norm(op, shapes, inputs[0])
        elif op.name == "rotary" and self._too_many(shapes[0][0]):
            return inf
        else:
            found = [self._small(op.name, shapes)]
        return self._seconds(found)

    def step(self, step: Step, value: str, before: Placement) -> float:
        """Time of one collective of a value that lay as `before`."""
        spec = self.graph.specs[value]
        shapes = [local_shape(spec, placement, self.target.mesh_shape) for placement in (before, step.after)]
        beside = self.ring is not None and value in self.in_layers
        if step.name == "mesh_partition":
            return inf if beside else self._seconds([self._small(step.name, shapes)])
        shape = max(shapes, key=prod)
        in_place = self._in_place(step, shape, self.target.mesh_shape[step.axis])
        sums = in_place and step.name == "all_reduce" and value in self.of_matmuls
        size = prod(shape) * self.precision.bytes_of("sums" if sums else "activations")
        ring = ring_of(self.target, step.axis)
        if in_place:
            seconds = self._seconds([self.kernels.persistent(step.name, size, ring)])
            # The heads are made within: they count as an operation of their own elsewhere.
            within = step.name == "all_reduce" and value in self.for_heads
            return seconds - (self.unmeasured - self.target.costs.persistent.create_heads / 1e6 if within else 0)
        if beside and step.name != "all_gather" and tiles(shape[-1]) % ring.chips:
            return inf  # ttnn fills such columns up, on every core
        generic = ("reduce_scatter", "all_gather") if step.name == "all_reduce" else (step.name,)
        return self._seconds([self.kernels.generic(kind, size, ring) for kind in generic])

    @property
    def unmeasured(self) -> float:
        """Time of a small operation of which nothing is known."""
        return (self.target.costs.gap + self.target.costs.unmeasured) / 1e6

    def _seconds(self, found: list[Kernel]) -> float:
        return sum(self.target.costs.gap + kernel.us for kernel in found) / 1e6

    def _linear(self, op: Op, shapes: list[tuple[int, ...]]) -> list[Kernel]:
        *rows, k = shapes[0]
        columns = sum(shape[0] for shape in shapes[1:] if len(shape) == 2)
        precision = self.precision.of_gates() if op.outputs[0] in self.gates else self.precision
        bytes_of = precision.bytes_of("weights")
        if self.prefill:
            return [self.kernels.matmul(prod(rows), k, columns, bytes_of, precision.flops(self.target))]
        fidelity = fidelity_on(self.target, precision.fidelity)
        ring = self.ring
        if ring and layer_of(op.module):
            if ring.slice_bytes(tiles(k), tiles(columns), bytes_of) > ring.buffer_bytes:
                return [Kernel({FIXED: inf}, "no room where weights are prefetched to")]
            stream = self.target.costs.ring_matmul.stream * PER_MICROSECOND
            arrives = ring.streamed_bytes(tiles(k), tiles(columns), bytes_of) / stream
            matmul = self.kernels.ring_matmul(k, columns, fidelity, len(ring.ring), self.target.stream_share * arrives)
            biased = any(len(shape) == 1 for shape in shapes[2:])
            return [matmul, *([self.kernels.small("BinaryNg")] if biased else [])]
        readers = self.target.readers_of_a_bank(columns)
        return [self.kernels.sharded_matmul(k, columns, bytes_of, fidelity, self._cores(k), prod(rows), readers)]

    def _attention(self, shapes: list[tuple[int, ...]]) -> Kernel:
        (_, heads, tokens, width), (rows, kv_heads, context, key), values = shapes[:3]
        if self.prefill:
            rate = PRECISIONS["accuracy"].flops(self.target)  # the rows ask for the most exact products
            # The second chunk of a prompt: short ones are for short prompts. Of tokens that chips share the last ones see most.
            behind = min(context, 2 * self.tokens) - tokens
            return self.kernels.prefill_attention(tokens, behind, heads, width + values[-1], rate)
        together = key + values[-1]
        cache = self.precision.bytes_of("cache")
        return self.kernels.decode_attention(min(rows, self.users), context, kv_heads, together, cache)

    def _norm(self, op: Op, shapes: list[tuple[int, ...]], placement: Placement) -> list[Kernel]:
        axes = placement.axes_of(len(shapes[0]) - 1)
        if not axes:
            moved = self.ring and layer_of(op.module)  # to the ring of the matmuls
            return [self._rows("LayerNorm", shapes[0]), *([self.kernels.small("Reshard")] if moved else [])]
        ring = ring_of(self.target, axes[0])
        if op.name == "rms_norm" and not self.prefill:
            return [self.kernels.statistics_norm(ring_of(self.target, axes[0], 1))]
        statistics = prod(shapes[0][:-1]) * TILE * ring.chips * 2.0
        return [
            self._rows("LayerNormPreAllGather", shapes[0]),
            self.kernels.generic("all_gather", statistics, ring_of(self.target, axes[0], 1)),
            self._rows("LayerNormPostAllGather", shapes[0]),
        ]

    def _rows(self, name: str, shape: tuple[int, ...]) -> Kernel:
        if not self.prefill:
            return self.kernels.small(name)
        return self.kernels.interleaved(2 * prod(shape) * self.precision.bytes_of("activations"), prod(shape[:-1]))

    def _small(self, name: str, shapes: list[tuple[int, ...]]) -> Kernel:
        if not self.prefill or not shapes:
            return self.kernels.small(_CLASSES.get(name, name))
        if name == "embedding":  # the table is not read whole
            return self.kernels.interleaved(0.0)
        moved = sum(map(prod, (*shapes[:1], *shapes))) * self.precision.bytes_of("activations")
        return self.kernels.interleaved(moved)

    def _too_many(self, users: int) -> bool:
        """Whether queries and keys of so many users, one to a core, have no room beside the prefetcher: they rotate on cores of their own."""
        return self.ring is not None and 2 * users > core_count(self.ring.workers)

    def _cores(self, width: int) -> int:
        """Over how many a hidden state of so many columns is sharded: the `home` of the rules, but for the rectangle."""
        return max(n for n in range(1, self.target.limits.home_cores + 1) if tiles(width) % n == 0)

    def _in_place(self, step: Step, shape: tuple[int, ...], chips: int) -> bool:
        """Whether a collective has a buffer of its own in L1: the guards of such rows in lowering_rules/collectives.toml."""
        if self.prefill or step.name == "reduce_scatter":
            return False
        if len(shape) == 4:  # heads: one user to a core
            return step.name == "all_gather" and step.dim == 0
        cores, ring = self._cores(shape[-1]), self.ring
        if ring and cores < ring.few:
            cores = len(ring.ring)
        columns = -(-tiles(shape[-1]) // cores) * TILE
        parts, role = (chips, "sums") if step.name == "all_reduce" else (1, "activations")
        room = self.target.limits.buffer_bytes
        return step.dim in (None, 2) and columns * parts * TILE * self.precision.bytes_of(role) <= room
