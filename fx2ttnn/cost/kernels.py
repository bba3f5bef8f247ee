"""The formula of each family of device operations: what its kernel takes on one chip, in microseconds, by what takes it.

Sizes in bytes. Where a formula comes from and how far it is from what was measured: docs/cost_model.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from fx2ttnn.cost.figures import Generic
from fx2ttnn.targets import Target
from fx2ttnn.tiles import tiles

FIXED, LATENCY, DRAM, COMPUTE, LINKS = "start-up", "latency", "DRAM", "compute", "links"
BESIDE = "beside the exchange"  # what a collective does with what came: makes heads, norms
PER_MICROSECOND = 1e3  # bytes a microsecond of one GB/s


@dataclass(frozen=True)
class Kernel:
    """Microseconds by what takes them, and the formula with its numbers. `measured`: whether somebody published such an operation."""

    parts: Mapping[str, float]
    formula: str
    measured: bool = True

    @property
    def us(self) -> float:
        return sum(self.parts.values())


@dataclass(frozen=True)
class Ring:
    """Chips along one mesh axis: how many, whether the last is the first's neighbour, channels between two."""

    chips: int
    closed: bool
    links: int
    channel_bandwidth: float

    @property
    def hops(self) -> float:
        """To the chip that is farthest."""
        return self.chips / 2 if self.closed else self.chips - 1

    def bandwidth(self, share: float) -> float:
        """Bytes a microsecond that reach a chip: over both sides of a ring, over one of a line."""
        return (2 if self.closed else 1) * self.links * self.channel_bandwidth / 1e6 * share


def ring_of(target: Target, axis: int, links: int | None = None) -> Ring:
    """The chips of `target` along mesh `axis`, over so many channels of theirs."""
    chips = target.mesh_shape[axis]
    return Ring(chips, target.torus and chips > 2, links or target.links, target.channel_bandwidth)


class Kernels:
    """The formulas with the figures of one target."""

    def __init__(self, target: Target):
        self.target, self.costs = target, target.costs

    # -- matmuls ---------------------------------------------------------------------------------------------------------

    def sharded_matmul(
        self, k: int, n: int, weight_bytes: float, fidelity: str, cores: int, rows: int = 32, readers: int = 1
    ) -> Kernel:
        """[rows, k] x [k, n], x sharded over so many cores, the weight over the DRAM banks: a block for each core's share of k.

        Columns are padded to whole tiles in each bank, which so many `readers` share; `weight_bytes` are those of one element.
        """
        figures, banks = self.costs.sharded_matmul, self.target.dram_banks
        depth = max(1, tiles(k) // cores)
        blocks, wide = -(-tiles(k) // depth), -(-tiles(n) // banks)
        stream = figures.several_readers if readers > 1 else figures.stream
        read = k * wide * 32 * banks * weight_bytes / (stream * PER_MICROSECOND) / blocks
        products = tiles(rows) * depth * wide / readers * self.costs.tile_product[fidelity]
        longest = max((read, DRAM), (products, COMPUTE), (figures.block, LATENCY))
        how = f"{figures.fixed} + {blocks} blocks x max({read:.2f} read, {products:.2f} products, {figures.block})"
        return Kernel({FIXED: figures.fixed, longest[1]: blocks * longest[0]}, how)

    def ring_matmul(self, k: int, n: int, fidelity: str, cores: int, waits: float = 0.0) -> Kernel:
        """[32, k] x [k, n], both sharded over a ring of so many cores, the weight prefetched: each core's columns times all of k, after microseconds that it `waits`."""
        fixed, product = self.costs.ring_matmul.fixed, self.costs.tile_product[fidelity]
        deep, wide = -(-tiles(k) // cores) * cores, -(-tiles(n) // cores)
        how = f"{fixed} + {deep} x {wide} tiles x {product}"
        return Kernel({FIXED: fixed, COMPUTE: deep * wide * product} | ({DRAM: waits} if waits else {}), how)

    def matmul(self, rows: int, k: int, n: int, weight_bytes: float, rate: float) -> Kernel:
        """[rows, k] x [k, n] over the whole grid; `rate` is the peak in FLOP/s."""
        figures = self.costs.matmul
        flops = 2.0 * 32 * tiles(rows) * k * n
        share = _between(figures.shares, flops / 1e9)
        products = flops / (rate * share) * 1e6
        read = figures.reread * k * n * weight_bytes / (self.costs.interleaved.stream * PER_MICROSECOND)
        longest = max((products, COMPUTE), (read, DRAM))
        how = f"{figures.fixed} + max({flops / 1e9:.2f} GFLOP at {share:.0%} of the peak, {read:.1f} read)"
        return Kernel({FIXED: figures.fixed, longest[1]: longest[0]}, how)

    # -- collectives -----------------------------------------------------------------------------------------------------

    def persistent(self, kind: str, whole: float, ring: Ring, extra: float = 0.0) -> Kernel:
        """A collective into a buffer of its own. `whole`: bytes of the whole value; an "all_reduce" sends it whole to all others."""
        figures = self.costs.persistent
        moved = (ring.chips - 1) * whole * (1 if kind == "all_reduce" else 1 / ring.chips)
        latency, links = ring.hops * self.costs.hop, moved / ring.bandwidth(figures.link_share)
        how = f"{figures.fixed} + {ring.hops:g} hops x {self.costs.hop} + {_kilobytes(moved)} over {ring.links} links"
        how += f" + {extra}" if extra else ""
        beside = {BESIDE: extra} if extra else {}
        return Kernel({FIXED: figures.fixed, **beside, LATENCY: latency, LINKS: links}, how)

    def generic(self, kind: str, whole: float, ring: Ring) -> Kernel:
        """`ttnn.all_gather` or `ttnn.reduce_scatter` of a value of so many bytes."""
        figures: Generic = getattr(self.costs, kind)
        moved = (ring.chips - 1) / ring.chips * whole
        if ring.closed and whole <= figures.staged_bytes:
            moved *= 1 + (figures.staged - 1) * ring.chips / 8
        fixed, hop = (figures.ring_fixed, figures.ring_hop) if ring.closed else (figures.line_fixed, figures.line_hop)
        links = moved / ring.bandwidth(figures.link_share)
        how = f"{fixed} + {ring.hops:g} hops x {hop} + {_kilobytes(moved)} over {ring.links} links"
        return Kernel({FIXED: fixed, LATENCY: ring.hops * hop, LINKS: links}, how)

    def statistics_norm(self, ring: Ring) -> Kernel:
        """The norm of a split row in one operation: a tile of statistics of each chip is gathered within it, over one link."""
        tile = 32 * 32 * 2.0
        norm = self.costs.persistent.norm
        return self.persistent("all_gather", ring.chips * tile, ring, norm)

    # -- attention -------------------------------------------------------------------------------------------------------

    def decode_attention(self, users: int, context: int, kv_heads: int, width: int, cache_bytes: float) -> Kernel:
        """One token of so many users, each with `context` tokens behind it; `width` is that of a key and a value together."""
        figures = self.costs.decode_attention
        one = context * kv_heads * width * cache_bytes / PER_MICROSECOND
        read = max(one / figures.user_stream, users * one / figures.stream)
        how = f"{figures.fixed} + {users} users x {_kilobytes(one * PER_MICROSECOND)} of cache"
        return Kernel({FIXED: figures.fixed, DRAM: read}, how)

    def prefill_attention(self, tokens: int, behind: int, heads: int, width: int, rate: float) -> Kernel:
        """A chunk of so many tokens of one user with `behind` before it; each sees what is before it. `rate`: the peak in FLOP/s."""
        figures = self.costs.prefill_attention
        flops = 2.0 * heads * tokens * (behind + tokens / 2) * width
        how = f"{figures.fixed} + {flops / 1e9:.2f} GFLOP at 1/{figures.wall} of the peak"
        return Kernel({FIXED: figures.fixed, COMPUTE: figures.wall * flops / rate * 1e6}, how)

    # -- the rest --------------------------------------------------------------------------------------------------------

    def small(self, name: str) -> Kernel:
        """An operation on a few rows in L1, by the name of ttnn's class or `class.variant`."""
        us = self.costs.ops.get(name)
        if us is None:
            return Kernel({FIXED: self.costs.unmeasured}, f"{self.costs.unmeasured}, no measurement", False)
        return Kernel({FIXED: us}, f"{us} as published")

    def interleaved(self, size: float, rows: int | None = None) -> Kernel:
        """An operation that reads and writes so many bytes of DRAM; on a core for each 32 `rows` where only these are divided."""
        figures = self.costs.interleaved
        cores = self.target.grid[0] * self.target.grid[1]
        stream = figures.stream if rows is None else min(figures.stream, figures.row_stream * min(tiles(rows), cores))
        return Kernel(
            {FIXED: figures.fixed, DRAM: size / (stream * PER_MICROSECOND)},
            f"{figures.fixed} + {_kilobytes(size)} at {stream:g} GB/s",
        )

    def topk(self, columns: int, rows: int = 32) -> Kernel:
        """The largest of each of so many columns, 32 rows at a time."""
        figures = self.costs.topk
        several = columns >= figures.least and columns & (columns - 1) == 0
        fixed, each = (
            (figures.fixed, figures.column) if several else (self.costs.unmeasured, figures.column_on_one_core)
        )
        times = tiles(rows)
        how = f"{times} x ({fixed} + {columns} columns x {each})"
        return Kernel({FIXED: times * fixed, COMPUTE: times * columns * each}, how)


def _between(table: tuple[tuple[float, float], ...], at: float) -> float:
    """Linear between the entries of an ascending table, constant beyond its ends."""
    for (x0, y0), (x1, y1) in pairwise(table):
        if at < x1:
            return y0 + (y1 - y0) * max(0.0, at - x0) / (x1 - x0)
    return table[-1][1]


def _kilobytes(size: float) -> str:
    return f"{size / 1e3:.0f} KB"
