"""The device operations that a ttnn call runs, each with its predicted time, from the call's arguments and where its tensors lie.

Which operations a call runs is ttnn's choice; tests/test_cost.py compares them with what ttnn dispatched on the mock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod

from fx2ttnn.cost.kernels import DRAM, FIXED, Kernel, Kernels, Ring, ring_of
from fx2ttnn.lower.values import Call, Construct, Tensor
from fx2ttnn.precision import BYTES
from fx2ttnn.targets import Target
from fx2ttnn.tiles import TILE, tiles


@dataclass(frozen=True)
class Load:
    """What a step is priced at: how many of the users are there, and how many tokens each has behind the step."""

    users: int
    context: int


@dataclass(frozen=True)
class CacheRead:
    """What attention of a token reads of the KV cache on a chip: all that its price needs beside the load.

    `users`: at most so many; `width`: elements of a key and a value together; `window`: tokens that are looked back at, None: all.
    """

    users: int
    kv_heads: int
    width: int
    element_bytes: float
    window: int | None = None

    def kernel(self, kernels: Kernels, load: Load) -> Kernel:
        """Its price under `load`, in microseconds."""
        seen = min(load.context, self.window or load.context)
        return kernels.decode_attention(
            min(self.users, load.users), seen, self.kv_heads, self.width, self.element_bytes
        )


@dataclass(frozen=True)
class DeviceOp:
    """A device operation by ttnn's class name, without the suffix that nearly all have; `cache`: of one whose price is the load's."""

    name: str
    kernel: Kernel
    cache: CacheRead | None = None


Found = Iterator[DeviceOp]


class Pricer:
    """Prices the calls of one lowered graph, whose tensors are given by name."""

    def __init__(self, target: Target, tensors: Mapping[str, Tensor], load: Load):
        self.kernels, self.target, self.tensors, self.load = Kernels(target), target, tensors, load

    def device_ops(self, call: Call) -> tuple[DeviceOp, ...]:
        """What the call runs on each chip, in order; nothing for what only changes a tensor's shape, or runs on the host."""
        if not call.function.startswith("ttnn."):
            return ()
        name = call.function.split(".")[-1]
        special: Callable[[Call], Iterable[DeviceOp]] | None = getattr(self, f"_{name}", None)
        return tuple(special(call) if special else [self._plain(_CLASSES.get(name, _camel(name)), call)])

    def prefetched(self, call: Call) -> float:
        """Bytes of a weight that the prefetcher brings to the call, with what fills its columns in each bank up, and its rows up to the ring."""
        ring = self.target.working_prefetcher
        if ring is None or "global_cb" not in call.kwargs:
            return 0.0
        weight = self._operands(call)[1]
        return ring.streamed_bytes(tiles(weight.shape[-2]), tiles(weight.width), BYTES[weight.dtype])

    # -- operands --------------------------------------------------------------------------------------------------------

    def _operands(self, call: Call) -> list[Tensor]:
        return [self.tensors[ref] for ref in call.inputs if ref in self.tensors]

    def _result(self, call: Call) -> Tensor:
        return self.tensors[call.outputs[0]]

    def _plain(self, name: str, call: Call, by_rows: bool = False) -> DeviceOp:
        """An operation without a formula of its own: by its bytes where it goes through DRAM, else as published."""
        operands = self._operands(call)
        results = [self.tensors[v] for v in call.outputs]
        moved = [t for t in (*operands[:1], *results) if t.memory.kind == "interleaved" and t.memory.buffer == "DRAM"]
        rows = max((prod(t.shape[:-1]) for t in (*operands[:1], *results)), default=1)
        if not moved or rows <= TILE:
            return DeviceOp(name, self.kernels.small(name))
        size = sum(map(_bytes, moved)) + sum(_bytes(t) for t in operands[1:] if t.shape == operands[0].shape)
        return DeviceOp(name, self.kernels.interleaved(size, rows if by_rows else None))

    # -- matmuls ---------------------------------------------------------------------------------------------------------

    def _linear(self, call: Call) -> Found:
        x, weight = self._operands(call)[:2]
        program, fidelity = call.kwargs.get("program_config"), fidelity_of(call)
        k, n, bytes_of = x.width, weight.width, BYTES[weight.dtype]
        if isinstance(program, Construct) and "DRAMSharded" in program.name:
            readers = dict(program.kwargs).get("num_workers_per_dram_bank", 1)
            kernel = self.kernels.sharded_matmul(k, n, bytes_of, fidelity, x.memory.core_count, x.rows, readers)
        elif isinstance(program, Construct) and dict(program.kwargs).get("gather_in0"):
            kernel = self.kernels.ring_matmul(k, n, fidelity, x.memory.core_count)
        else:
            copies = prod(weight.shape[:-2]) or 1  # a matmul of each head or expert
            rows = prod(x.shape[:-1])
            each = self.kernels.matmul(
                max(TILE, rows // copies), k, n, bytes_of, getattr(self.target, f"flops_{fidelity.lower()}")
            )
            kernel = Kernel(
                {part: us * (1 if part == FIXED else copies) for part, us in each.parts.items()}, each.formula
            )
        yield DeviceOp("Matmul", kernel)

    _matmul = _linear

    # -- collectives -----------------------------------------------------------------------------------------------------

    def _ring(self, call: Call) -> Ring:
        return ring_of(self.target, call.kwargs["cluster_axis"], call.kwargs.get("num_links"))

    def _whole(self, call: Call) -> float:
        """Bytes of the longest of a collective's operand and result."""
        return max(_bytes(self._operands(call)[0]), _bytes(self._result(call)))

    def _all_gather(self, call: Call) -> Found:
        yield DeviceOp("AllGather", self.kernels.generic("all_gather", self._whole(call), self._ring(call)))

    def _reduce_scatter(self, call: Call) -> Found:
        ring, whole = self._ring(call), self._whole(call)
        staged = ring.closed and whole <= self.target.costs.reduce_scatter.staged_bytes
        name = "ReduceScatterMinimalDirect" if staged else "ReduceScatter"
        yield DeviceOp(name, self.kernels.generic("reduce_scatter", whole, ring))

    def _all_reduce(self, call: Call) -> Found:
        if self._operands(call)[0].memory.kind != "interleaved":
            yield DeviceOp("ShardedToInterleaved", self.kernels.small("ShardedToInterleaved"))
        yield from self._reduce_scatter(call)
        yield from self._all_gather(call)

    def _all_reduce_async(self, call: Call) -> Found:
        kernel = self.kernels.persistent("all_reduce", _bytes(self._operands(call)[0]), self._ring(call))
        yield DeviceOp("AllReduceAsync", kernel)

    def _all_reduce_create_qkv_heads(self, call: Call) -> Found:
        extra = self.target.costs.persistent.create_heads
        kernel = self.kernels.persistent("all_reduce", _bytes(self._operands(call)[0]), self._ring(call), extra)
        yield DeviceOp("AllReduceCreateQkvHeads", kernel)

    def _all_gather_async(self, call: Call) -> Found:
        yield DeviceOp("AllGatherAsync", self.kernels.persistent("all_gather", self._whole(call), self._ring(call)))

    def _fused_rms_minimal(self, call: Call) -> Found:
        yield DeviceOp("RMSAllGather", self.kernels.statistics_norm(self._ring(call)))

    # -- attention -------------------------------------------------------------------------------------------------------

    def _paged_scaled_dot_product_attention_decode(self, call: Call) -> Found:
        query, keys, *_ = self._operands(call)
        width = keys.width + self._operands(call)[1 + ("v_cache" not in call.kwargs)].width
        window = call.kwargs.get("sliding_window_size")
        cache = CacheRead(query.shape[1], keys.shape[1], width, BYTES[keys.dtype], window)
        yield DeviceOp("SdpaDecode", cache.kernel(self.kernels, self.load), cache)

    def _chunked_scaled_dot_product_attention(self, call: Call) -> Found:
        query, keys = self._operands(call)[:2]
        _, heads, tokens, width = query.shape
        behind = min(max(0, self.load.context - tokens), call.kwargs.get("sliding_window_size") or self.load.context)
        rate = getattr(self.target, f"flops_{fidelity_of(call).lower()}")
        yield DeviceOp("SDPAOperation", self.kernels.prefill_attention(tokens, behind, heads, width + keys.width, rate))

    # -- moves, and the rest ---------------------------------------------------------------------------------------------

    def _to_memory_config(self, call: Call) -> Found:
        x, result = self._operands(call)[0], self._result(call)
        if x.memory == result.memory:
            return
        sharded = x.memory.kind != "interleaved", result.memory.kind != "interleaved"
        names = {
            (True, True): "Reshard",
            (True, False): "ShardedToInterleaved",
            (False, True): "InterleavedToSharded",
            (False, False): "Copy",
        }
        yield self._plain(names[sharded], call)

    def _reshape(self, call: Call) -> Found:
        x, result = self._operands(call)[0], self._result(call)
        before, after = (t.shape[-2] if len(t.shape) > 1 else 1 for t in (x, result))
        rows = before == after or (before % TILE == 0 and after % TILE == 0)
        if call.is_view:
            return
        if x.width != result.width or not (rows or x.layout == "ROW_MAJOR"):
            yield self._plain("ReshapeView", call)

    def _embedding(self, call: Call) -> Found:
        yield self._plain("Embeddings", call)
        if self._result(call).rows % TILE:
            yield self._plain("TilizeWithValPadding", call)

    def _rotary_embedding_llama_fused_qk(self, call: Call) -> Found:
        yield self._plain("RotaryEmbeddingLlamaFusedQK", call)

    def _dit_fused_distributed_rmsnorm(self, call: Call) -> Found:
        """Norm and rotation of heads: nobody published its time, it counts as the norm."""
        norm = self._plain("LayerNorm", call, by_rows=True).kernel
        kernel = Kernel(norm.parts, f"as a norm, {norm.formula}; itself without a measurement", False)
        yield DeviceOp("DitFusedDistributedRmsnorm", kernel)

    def _rms_norm(self, call: Call) -> Found:
        yield self._plain("LayerNorm", call, by_rows=True)

    _layer_norm = _rms_norm

    def _rms_norm_pre_all_gather(self, call: Call) -> Found:
        yield self._plain("LayerNormPreAllGather", call, by_rows=True)

    _layer_norm_pre_all_gather = _rms_norm_pre_all_gather

    def _rms_norm_post_all_gather(self, call: Call) -> Found:
        yield self._plain("LayerNormPostAllGather", call, by_rows=True)

    _layer_norm_post_all_gather = _rms_norm_post_all_gather

    def _multiply(self, call: Call) -> Found:
        op = self._plain("BinaryNg", call)
        activated = any("activations" in name for name in call.kwargs) and DRAM not in op.kernel.parts
        yield DeviceOp(op.name, self.kernels.small("BinaryNg.activation")) if activated else op

    def _pad(self, call: Call) -> Found:
        if self._operands(call)[0].width % TILE:
            yield self._plain("FillPad", call)
        yield self._plain("Pad", call)

    def _paged_update_cache(self, call: Call) -> Found:
        """A row for each user, wherever the pages lie."""
        yield DeviceOp("PagedUpdateCache", self.kernels.small("PagedUpdateCache"))

    def _paged_fused_update_cache(self, call: Call) -> Found:
        yield DeviceOp("PagedFusedUpdateCache", self.kernels.small("PagedFusedUpdateCache"))

    def _paged_fill_cache(self, call: Call) -> Found:
        _, rows = self._operands(call)[:2]
        yield DeviceOp("PagedFillCache", self.kernels.interleaved(2 * _bytes(rows)))

    def _topk(self, call: Call) -> Found:
        *_, rows, columns = self._operands(call)[0].shape
        if columns < 2 * TILE:
            yield from (self._plain(name, call) for name in ("FillPad", "Pad"))
        yield DeviceOp("TopK", self.kernels.topk(columns, rows))

    def _scatter(self, call: Call) -> Found:
        """Of rows, into which operands in tiles are brought, and its result out of them."""
        tiled = [operand for operand in self._operands(call) if operand.layout == "TILE"]
        result = ["TilizeWithValPadding"] if self._result(call).layout == "TILE" else []
        names = (*["UntilizeWithUnpadding" for _ in tiled], "Scatter", *result)
        yield from (self._plain(name, call) for name in names)

    def _untilize(self, call: Call) -> Found:
        """Without the columns that fill the last tile, where there are any."""
        yield self._plain("UntilizeWithUnpadding" if self._result(call).width % TILE else "Untilize", call)

    def _to_layout(self, call: Call) -> Found:
        if self._result(call).layout == "TILE":
            yield self._plain("TilizeWithValPadding", call)
        else:
            yield self._plain("UntilizeCodegen" if self._result(call).dtype == "bfloat16" else "Untilize", call)


# ttnn's names of what several functions run.
_CLASSES = {
    **dict.fromkeys(
        ("add", "subtract", "multiply", "div", "minimum", "maximum", "lt", "gt", "ge", "eq", "logical_and", "where"),
        "BinaryNg",
    ),
    **dict.fromkeys(
        ("tanh", "softplus", "relu", "gelu", "silu", "sigmoid", "square", "abs", "expm1", "clamp"), "Unary"
    ),
    "sum": "Reduce",
    "repeat": "Repeat",
    "nlp_create_qkv_heads_decode": "NLPCreateQKVHeadsDecode",
    "nlp_concat_heads_decode": "NLPConcatHeadsDecode",
    "nlp_create_qkv_heads": "NlpCreateHeads",
    "nlp_concat_heads": "NLPConcatHeads",
}


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _bytes(tensor: Tensor) -> float:
    *others, rows, columns = (1, 1, *tensor.shape)
    padded = tiles(rows) * TILE * tiles(columns) * TILE if tensor.layout == "TILE" else rows * columns
    return prod(others) * padded * BYTES[tensor.dtype]


def fidelity_of(call: Call) -> str:
    """Math fidelity of a call: ttnn's default where it says none."""
    config = call.kwargs.get("compute_kernel_config")
    found = dict(config.kwargs).get("math_fidelity") if isinstance(config, Construct) else None
    return found.name.split(".")[-1] if found is not None else "HiFi2"
