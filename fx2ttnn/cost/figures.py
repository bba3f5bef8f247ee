"""What a kind of chip is known to take: the sections [cost...] of targets/chips/*.toml, where each figure has its source.

Times in microseconds, bandwidths in GB/s.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ShardedMatmul(_Section):
    """A matmul of a few rows whose weight streams from the DRAM banks, each to one core or to `several_readers`.

    `block`: the least time of a block of its contracted dim.
    """

    fixed: float
    stream: float
    several_readers: float
    block: float


class RingMatmul(_Section):
    """A matmul whose weight was prefetched into L1; `stream`: what the prefetcher brings, beside the other operations of a layer."""

    fixed: float
    stream: float


class Matmul(_Section):
    """A matmul of many rows. `shares`: of the peak rate that a product of so many GFLOP reaches; its weight is read `reread` times."""

    fixed: float
    shares: tuple[tuple[float, float], ...]
    reread: float


class Persistent(_Section):
    """A collective into a buffer that lies ready, without a barrier; what it does besides with what came takes as long as said here."""

    fixed: float
    link_share: float
    create_heads: float
    concat_heads: float
    norm: float


class Generic(_Section):
    """A collective out of the box, as `ttnn.all_gather`: with a barrier. `staged`: how often a short value passes the links of a ring."""

    ring_fixed: float
    ring_hop: float
    line_fixed: float
    line_hop: float
    link_share: float
    staged: float = 1.0
    staged_bytes: int = 0


class DecodeAttention(_Section):
    """Attention of a token: `user_stream` is what the cores of one user read of the cache, `stream` what all of them do."""

    fixed: float
    user_stream: float
    stream: float


class PrefillAttention(_Section):
    """Attention of a chunk: its products take so many times what they do at the peak rate."""

    fixed: float
    wall: float


class Interleaved(_Section):
    """An operation on interleaved tensors. Those that divide only rows over cores read and write `row_stream` on each of these."""

    fixed: float
    stream: float
    row_stream: float


class TopK(_Section):
    """Time of a column of 32 rows: on several cores, `fixed` besides, where the width is a power of two from `least` on, else on one."""

    fixed: float
    column: float
    least: int
    column_on_one_core: float


class Costs(_Section):
    """`gap` lies between two operations of a trace, `hop` between neighbours of the fabric; `ops`: small operations, by ttnn's class names.

    `tile_product`: of two tiles on a core, by math fidelity; `unmeasured`: of a small operation whose time nobody published;
    `host`: of a step whose logits the host samples.
    """

    gap: float
    hop: float
    unmeasured: float
    host: float
    tile_product: Mapping[str, float]
    sharded_matmul: ShardedMatmul
    ring_matmul: RingMatmul
    matmul: Matmul
    persistent: Persistent
    all_gather: Generic
    reduce_scatter: Generic
    decode_attention: DecodeAttention
    prefill_attention: PrefillAttention
    interleaved: Interleaved
    topk: TopK
    ops: Mapping[str, float]
