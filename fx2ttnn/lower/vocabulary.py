"""The words that rule tables use for layouts and program configurations. They depend on sizes and the target, on no model.

In the tables an operand is a `Tensor` (one chip's part); `home(x)` is where a hidden state of that width lives between ops.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

from fx2ttnn.lower.values import Construct, Enum, Memory, Tensor
from fx2ttnn.precision import BYTES, Precision, fidelity_on
from fx2ttnn.targets import Prefetcher, Range, Target, core_count
from fx2ttnn.tiles import TILE, tiles

L1 = Memory("L1")
DRAM = Memory("DRAM")


def remap(axes: tuple[str | int, ...], old: tuple[str | int, ...], new: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """A placement in other dims: each dim of `old` becomes that of `new`."""
    table = dict(zip(old, new, strict=True))
    return tuple(table.get(a, a) for a in axes)


def evenly_sharded(x: Tensor) -> bool:
    """Width sharded in L1 with no shard partly empty."""
    memory = x.memory
    return memory.kind == "width" and memory.shard is not None and memory.shard[1] * memory.core_count == x.width


def apart(x: Tensor, y: Tensor) -> bool:
    """Sharded over cores of which none is the other's."""
    return bool(x.memory.cores and y.memory.cores) and _cores(x.memory).isdisjoint(_cores(y.memory))


def _cores(memory: Memory) -> set[tuple[int, int]]:
    return {(x, y) for (x0, y0), (x1, y1) in memory.cores for x in range(x0, x1 + 1) for y in range(y0, y1 + 1)}


def widened(memory: Memory, times: int) -> Memory:
    """The same cores, each with so many times the columns."""
    assert memory.shard is not None
    return replace(memory, shard=(memory.shard[0], memory.shard[1] * times))


def a_tile_each(memory: Memory) -> Memory:
    """The same cores, each with one tile."""
    return replace(memory, shard=(TILE, TILE))


def float32(x: float) -> float:
    """The float32 nearest to `x`. Some ttnn operations refuse a Python float that is not exactly one."""
    return struct.unpack("f", struct.pack("f", x))[0]


def divisors(n: int, limit: int) -> list[int]:
    """Divisors of `n` up to `limit`, in ascending order."""
    return [d for d in range(1, min(n, limit) + 1) if n % d == 0]


def power_of_two(n: int) -> int:
    """The smallest one that is at least `n`."""
    return 1 << (n - 1).bit_length()


class Vocabulary:
    """Layout functions for one target, precision and mode. Where decode keeps one row for each user sharded in L1, prefill, with many
    rows, has interleaved DRAM."""

    def __init__(self, target: Target, precision: Precision, mode: str):
        self.target, self.precision = target, precision
        self.grid, self.limits = target.grid, target.limits
        self.prefill = mode == "prefill"
        self.whole: tuple[Range, ...] = (((0, 0), (self.grid[0] - 1, self.grid[1] - 1)),)
        # Where a step's operations run: those of layers beside the prefetcher, so that all keep to its workers.
        self.area: tuple[Range, ...] = self.ring.workers if target.prefetching and mode == "decode" else self.whole
        self.area_cores = core_count(self.area)

    def scope(self) -> dict[str, Any]:
        """Names for expressions."""
        words: dict[str, Any] = {
            "home": self.home,
            "users_on_cores": self.users_on_cores,
            "users_in_order": self.users_in_order,
            "heads_on_cores": self.heads_on_cores,
            "whole_heads": self.whole_heads,
            "heads_in_a_column": self.heads_in_a_column,
            "area_cores": self.area_cores,
            "on_ring": self.on_ring,
            "received": self.received,
            "ring_weight": self.ring_weight,
            "ring_matmul": self.ring_matmul,
            "fits_ring": self.fits_ring,
            "workers": Enum("cfg.WORKERS"),
            "worker_cores": Enum("cfg.WORKER_CORES"),
            "dram_width_sharded": self.dram_width_sharded,
            "dram_sharded_matmul": self.dram_sharded_matmul,
            "prefill_matmul": self.prefill_matmul,
            "prefill_attention": self.prefill_attention,
            "decode_attention": self.decode_attention,
            "float32": float32,
            "sharded_norm": self.sharded_norm,
            "one_core": self.one_core,
            "cores": self.cores,
            "power_of_two": power_of_two,
            "landing": self.landing,
            "sum_in_one": self.sum_in_one,
            "matmul_input": self.matmul_input,
            "matmul_output": self.matmul_output,
            "topology": self.topology,
            "links": self.target.links,
            "limits": self.limits,
            "activation": lambda name: Enum(f"ttnn.UnaryOpType.{name.upper()}"),
            "remap": remap,
            "apart": apart,
            "a_tile_each": a_tile_each,
            "widened": widened,
            "tiles": tiles,
            "enum": Enum,
            "min": min,
            "max": max,
            "len": len,
            "evenly_sharded": evenly_sharded,
            "compute_kernel": self.compute_kernel,
        }
        return {
            **words,
            "L1": L1,
            "DRAM": DRAM,
            "interleaved": DRAM if self.prefill else L1,
            "ROW_MAJOR": "ROW_MAJOR",
            "TILE": TILE,
            "ttnn": Enum("ttnn"),
            "target": self.target,
            "precision": self.precision,
            "true": True,
            "false": False,
        }

    @property
    def ring(self) -> Prefetcher:
        """The cores of the prefetcher."""
        assert self.target.prefetcher is not None
        return self.target.prefetcher

    @property
    def room(self) -> int:
        """Bytes of a core's L1 that the buffers of a matmul may take."""
        prefetched = self.ring.buffer_bytes if self.target.prefetching and not self.prefill else 0
        return self.target.l1_usable_bytes - self.limits.left_free_bytes - prefetched

    def rectangle(self, cores: int) -> Range | None:
        """The widest one of so many cores that fits the grid."""
        (x0, y0), (x1, y1) = self.area[0]
        for x in range(min(x1 - x0 + 1, cores), 0, -1):
            if cores % x == 0 and cores // x <= y1 - y0 + 1:
                return (x0, y0), (x0 + x - 1, y0 + cores // x - 1)
        return None

    def first_cores(self, count: int, behind: int = 0) -> tuple[Range, ...]:
        """The first `count` cores in row-major order behind so many others, as rectangles."""
        return _first_cores(self.area, count, behind)

    def cores(self, count: int) -> Construct:
        """The first `count` cores, for an operation that is told on which to run."""
        return Construct("cores", (("rectangles", self.first_cores(count)),))

    def home(self, x: Tensor | int) -> Memory:
        """L1, width sharded over the most cores (up to 32) that divide the width into whole tiles and form a rectangle."""
        if self.prefill:
            return DRAM
        width = x if isinstance(x, int) else x.width
        count = tiles(width)
        for cores in range(min(self.limits.home_cores, count), 0, -1):
            box = self.rectangle(cores)
            if box and count % cores == 0:
                return Memory("L1", "width", (TILE, count // cores * TILE), (box,))
        raise ValueError(f"no core grid for a width of {width}")

    def landing(self, width: int) -> Memory:
        """Where a collective puts a hidden state: home, or interleaved DRAM where home would take too much of each core's L1.

        Beside the prefetcher, where nothing may be interleaved, the cores of its matmuls' outputs then, and where home has few cores.
        """
        beside = self.area != self.whole
        other = self.received(width) if beside else DRAM
        try:
            memory = self.home(width)
        except ValueError:
            return other
        few = beside and memory.core_count < self.ring.few
        wide = not memory.shard or memory.shard[1] * TILE * 2 > self.limits.activation_bytes
        return other if few or wide else memory

    def sum_in_one(self, x: Tensor, axis: int, dtype: str) -> bool:
        """Whether the summands of x, in such a type, fit where an operation keeps those of all chips of a mesh axis."""
        memory = self.landing(x.width)
        columns = memory.shard[1] * self.target.mesh_shape[axis] if memory.kind == "width" and memory.shard else 0
        return 0 < columns * TILE * BYTES[dtype] <= self.limits.buffer_bytes and x.rows <= TILE

    def matmul_input(self, x: Tensor, width: int) -> Memory:
        """Where a DRAM sharded matmul reads x: where it lies if it is evenly sharded, else home.

        Its output lies on the same cores: where that would take too much of each one's L1, home, if home has more cores.
        """
        if not evenly_sharded(x):
            return self.home(x)
        memory = self.matmul_output(x, width)
        crowded = memory.shard is not None and memory.shard[1] * TILE * 2 > self.limits.activation_bytes
        return self.home(x) if crowded and self.home(x).core_count > x.memory.core_count else x.memory

    def matmul_output(self, x: Tensor, width: int) -> Memory:
        """Where a DRAM sharded matmul leaves its output: on the first cores, the last one perhaps part full.

        As many as hold its input, less those that get no column at all.
        """
        per_core = -(-tiles(width) // x.memory.core_count)
        cores = _first_cores(self.whole, -(-tiles(width) // per_core))
        return Memory("L1", "width", (TILE, per_core * TILE), cores)

    def topology(self, axis: int) -> Enum:
        """Ring where the mesh axis closes on the torus."""
        ring = self.target.torus and self.target.mesh_shape[axis] > 2
        return Enum("ttnn.Topology.Ring" if ring else "ttnn.Topology.Linear")

    def users_on_cores(self, x: Tensor) -> Memory:
        """Heads [1, users, heads, D]: one user to a core, its heads the rows of the shard. The cores form a rectangle if they can.

        Where they do not, ttnn's reshape leaves its result interleaved and nlp_concat_heads_decode refuses it.
        """
        if self.prefill:
            return DRAM
        box = self.rectangle(x.shape[1])
        return replace(self.users_in_order(x), cores=(box,)) if box else self.users_in_order(x)

    def users_in_order(self, x: Tensor, behind: int = 0, times: int = 1) -> Memory:
        """As above on the first cores in row-major order, where ttnn puts heads that it makes; `behind` so many others, for so many `times` the users."""
        _, users, heads, dim = x.shape
        return Memory("L1", "height", (tiles(heads) * TILE, dim), self.first_cores(times * users, behind))

    def heads_on_cores(self, heads: int, dim: int) -> Memory:
        """Width sharded with one head to a core."""
        return Memory("L1", "width", (TILE, dim), self.first_cores(heads))

    def whole_heads(self, x: Tensor, dim: int) -> Memory:
        """Where x lies if that is width sharded and no core holds parts of two heads of `dim` columns; else one head to a core."""
        memory = x.memory
        lies = memory.kind == "width" and memory.shard is not None and dim % memory.shard[1] == 0
        return memory if lies else self.heads_on_cores(x.width // dim, dim)

    def one_core(self, width: int) -> Memory:
        """Width sharded on a single core."""
        return Memory("L1", "width", (TILE, width), self.first_cores(1))

    def dram_width_sharded(self, k: int, n: int, parts: int = 1) -> Memory:
        """A weight [K, N] with its columns over the DRAM banks, in each as many whole tiles for every one of its `parts`."""
        banks = self.target.dram_banks
        columns = -(-tiles(n) // (banks * parts)) * parts * TILE
        return Memory("DRAM", "width", (k, columns), (((0, 0), (banks - 1, 0)),))

    def ring_weight(self, k: int, n: int) -> Memory:
        """As above, a part for each of a bank's receivers."""
        return self.dram_width_sharded(k, n, self.ring.receivers)

    def on_ring(self, width: int, rows: int = TILE) -> Memory:
        """Width sharded where a matmul of a prefetched weight reads it: over the ring, the last cores perhaps part full or empty."""
        return self._over(self.ring.ring, width, rows)

    def received(self, width: int) -> Memory:
        """Width sharded where such a matmul leaves its output: each core has the columns of the weight that it received."""
        return self._over(self.ring.received, width)

    def _over(self, cores: tuple[tuple[int, int], ...], width: int, rows: int = TILE) -> Memory:
        return Memory("L1", "width", (rows, -(-tiles(width) // len(cores)) * TILE), tuple((c, c) for c in cores))

    def fits_ring(self, k: int, n: int, dtype: str) -> bool:
        """Whether a receiver has room for its part of a weight [k, n]."""
        return self.ring.slice_bytes(tiles(k), tiles(n), BYTES[dtype]) <= self.ring.buffer_bytes

    def ring_matmul(self, x: Tensor, weight: Tensor, prefetched: bool = True) -> Construct:
        """Program of a matmul whose weight is prefetched, or lies on the ring: each core multiplies its columns by every other's part of x, which goes round.

        ttnn wants `in0_block_w` to divide the tiles of x; the kernel takes each core's part of x at a time whatever it is
        (matmul_multicore_reuse_mcast_1d_program_factory.cpp).
        """
        cores = len(self.ring.ring)
        deep, wide = (-(-tiles(t.width) // cores) for t in (x, weight))
        columns = max(divisors(cores, 8))  # of a rectangle of so many cores; they are those of x
        return Construct(
            "ttnn.MatmulMultiCoreReuseMultiCast1DProgramConfig",
            (
                ("compute_with_storage_grid_size", (columns, cores // columns)),
                ("in0_block_w", max(divisors(tiles(x.width), deep))),
                ("out_subblock_h", 1),
                ("out_subblock_w", max(divisors(wide, self.limits.subblock_tiles))),
                ("per_core_M", tiles(x.rows)),
                ("per_core_N", wide),
                ("fuse_batch", True),
                ("fused_activation", None),
                ("mcast_in0", False),
                ("gather_in0", True),
                ("hop_cores", Enum("HOP_CORES")),
                ("num_global_cb_receivers", self.ring.receivers if prefetched else 1),
                ("untilize_out", False),
            ),
        )

    def heads_in_a_column(self, x: Tensor) -> Memory:
        """Heads [1, users, heads, D] as blocks, one user to a core, the cores one below the other: where ttnn's norm takes sharded heads."""
        _, users, _, dim = x.shape
        x0, y0 = self.area[0][0]
        return Memory("L1", "block", (TILE, dim), (((x0, y0), (x0, y0 + users - 1)),))

    def dram_sharded_matmul(self, x: Tensor, weight: Tensor) -> Construct:
        """Program of a matmul whose weight streams from DRAM banks and whose input is width sharded over L1.

        A core next to a bank, or each of several, holds three blocks of its columns, their sums in float32, the output and the bias.
        """
        cores, readers = x.memory.core_count, self.target.readers_of_a_bank(weight.width)
        per_core = tiles(x.width) // cores
        per_bank = -(-tiles(weight.width) // self.target.dram_banks) // readers
        tile = TILE * TILE
        sums = per_bank * tile * (4 + 2 + 2)
        room = self.room

        def fits(block: int) -> bool:
            return 3 * block * per_bank * tile * BYTES[weight.dtype] + 2 * block * tile * BYTES[x.dtype] + sums <= room

        blocks = divisors(per_core, self.limits.matmul_block_tiles)
        block = max((b for b in blocks if fits(b)), default=1)
        return Construct(
            "ttnn.MatmulMultiCoreReuseMultiCastDRAMShardedProgramConfig",
            (
                ("in0_block_w", block),
                ("per_core_M", tiles(x.rows)),
                ("per_core_N", -(-tiles(weight.width) // cores)),
                *((("num_workers_per_dram_bank", readers),) if readers > 1 else ()),
            ),
        )

    def prefill_matmul(self, x: Tensor, weight: Tensor) -> Construct:
        """Program of a matmul over many rows, x in interleaved DRAM, the weight's columns over the DRAM banks.

        Rows of x go to rows of cores, columns of the weight to columns of cores. Of a core's rows as many are computed at a time
        as fit its L1: the weight is read once for each such block. The kernel that reads from the banks takes no blocks of columns.
        """
        m, k, n = tiles(x.rows), tiles(x.width), tiles(weight.width)
        per_core_m, per_core_n = -(-m // self.grid[1]), -(-n // self.grid[0])
        in0_tile, in1_tile = (int(TILE * TILE * BYTES[t.dtype]) for t in (x, weight))
        room = self.room

        def fits(rows: int, depth: int) -> bool:
            doubled = 2 * depth * (rows * in0_tile + per_core_n * in1_tile)
            sums = per_core_n * TILE * TILE * (rows * (2 + 4) + 2)  # output, its float32 sums, bias
            return doubled + sums <= room

        depths = divisors(k, self.limits.matmul_block_tiles)
        blocks = [(r, d) for r in divisors(per_core_m, per_core_m) for d in depths if fits(r, d)]
        if not blocks:
            raise ValueError(f"a weight of {weight.width} columns is too wide for a matmul of many rows")
        rows, depth = max(blocks, key=lambda block: (block[1] > 1 or depths == [1], *block))
        subblocks = [
            (h, w)
            for h in divisors(rows, self.limits.subblock_tiles)
            for w in divisors(per_core_n, self.limits.subblock_tiles // h)
        ]
        high, wide = max(subblocks, key=lambda s: (s[0] * s[1], s[1]))
        return Construct(
            "ttnn.MatmulMultiCoreReuseMultiCastProgramConfig",
            (
                ("compute_with_storage_grid_size", self.grid),
                ("in0_block_w", depth),
                ("out_subblock_h", high),
                ("out_subblock_w", wide),
                ("out_block_h", rows),
                ("out_block_w", per_core_n),
                ("per_core_M", per_core_m),
                ("per_core_N", per_core_n),
                ("transpose_mcast", False),
                ("fused_activation", None),
                ("fuse_batch", True),
            ),
        )

    def prefill_attention(self, query: Tensor) -> Construct:
        """Program of attention of a chunk [1, heads, S, D] to the pages of the cache.

        A core attends a block of queries to blocks of keys, as large as its L1 allows; queries less where cores would stay idle.
        Both divide the chunk (one of 32 tokens has keys of 64, a page) and so the position at which it starts.
        """
        _, heads, tokens, dim = query.shape
        largest = self.limits.attention_chunk if dim <= 128 else self.limits.attention_chunk // 2
        sizes = [size for size in (32, 64, 128, 256) if size <= largest and tokens % size == 0]
        busy = [size for size in sizes if 2 * heads * (tokens // size) >= self.grid[0] * self.grid[1]]
        return Construct(
            "ttnn.SDPAProgramConfig",
            (
                ("compute_with_storage_grid_size", self.grid),
                ("q_chunk_size", max([*busy, *(size for size in sizes if size <= 2 * TILE)])),
                ("k_chunk_size", max(64, *sizes)),
                ("exp_approx_mode", False),
            ),
        )

    def sharded_norm(self, x: Tensor) -> Construct | None:
        """Program of a norm over a width sharded input; none where ttnn chooses it."""
        if x.memory.kind not in ("width", "block"):
            return None
        ((x0, y0), (x1, y1)) = x.memory.cores[0]
        block = tiles(x.memory.shard[1]) if x.memory.shard else tiles(x.width)
        return Construct(
            "ttnn.LayerNormShardedMultiCoreProgramConfig",
            (
                ("compute_with_storage_grid_size", (x1 - x0 + 1, y1 - y0 + 1)),
                ("subblock_w", max(b for b in range(1, 5) if block % b == 0)),
                ("block_h", tiles(x.rows)),
                ("block_w", block),
                ("inplace", False),
            ),
        )

    def decode_attention(self, window: int | None, keys: int, beside: bool = False) -> Construct:
        """Program of attention of a token over `keys` in the pages of a cache: ttnn takes an approximate exponential unless it is told not to.

        The kernel chooses the chunks of keys by each user's position (0); but with a sliding `window` it is wrong then
        (docs/ttnn_issues/window_and_chunk.md), and chunks are as large as the window and the cache allow. That of queries has no meaning here.
        `beside` the prefetcher it keeps to its workers.
        """
        grid = (self.area_cores // self.grid[1], self.grid[1]) if beside else self.grid
        chunk = 0 if window is None else max(n for n in (64, 128, 256) if keys % n == 0 and n <= max(window, 64))
        return Construct(
            "ttnn.SDPAProgramConfig",
            (
                ("compute_with_storage_grid_size", grid),
                ("q_chunk_size", 0),
                ("k_chunk_size", chunk),
                ("exp_approx_mode", False),
                *((("sub_core_grids", Enum("WORKER_CORES")),) if beside else ()),
            ),
        )

    def compute_kernel(self, fidelity: str, fp32: bool = True) -> Construct:
        """Math fidelity ("exact": the most exact that the chip computes right with), accumulation in float32."""
        return Construct(
            "ttnn.WormholeComputeKernelConfig",
            (
                ("math_fidelity", Enum(f"ttnn.MathFidelity.{fidelity_on(self.target, fidelity)}")),
                ("math_approx_mode", False),
                ("fp32_dest_acc_en", fp32),
                ("packer_l1_acc", True),
            ),
        )


def _first_cores(area: tuple[Range, ...], count: int, behind: int = 0) -> tuple[Range, ...]:
    """The first `count` cores of some rectangles, of each in row-major order, behind so many others: as rectangles."""
    if behind + count > core_count(area):
        raise ValueError(f"{behind + count} cores are more than the grid's {core_count(area)}")
    found: list[Range] = []
    for rectangle in area:
        (x0, y0), (x1, _) = rectangle
        columns, size = x1 - x0 + 1, core_count((rectangle,))
        at, end = min(behind, size), min(behind + count, size)
        behind, count = behind - at, count - (end - at)
        while at < end:
            row, column = divmod(at, columns)
            rows = (end - at) // columns if column == 0 else 0
            last = (columns - 1, row + rows - 1) if rows else (min(columns, column + end - at) - 1, row)
            found.append(((x0 + column, y0 + row), (x0 + last[0], y0 + last[1])))
            at += rows * columns or last[0] - column + 1
    return tuple(found)
