"""Target machines as data: one TOML file per machine, one per kind of chip."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fx2ttnn.cost.figures import Costs
from fx2ttnn.errors import UserError
from fx2ttnn.shipped import shipped
from fx2ttnn.tiles import tiles

_HERE = Path(__file__).parent
Range = tuple[tuple[int, int], tuple[int, int]]  # first and last core (x, y), both included


def core_count(ranges: Iterable[Range]) -> int:
    """Cores in some rectangles."""
    return sum((x1 - x0 + 1) * (y1 - y0 + 1) for (x0, y0), (x1, y1) in ranges)


@dataclass(frozen=True)
class Limits:
    """Sizes that bound what ttnn's kernels take on a chip; what each is stands in chips/*.toml."""

    home_cores: int
    activation_bytes: int
    left_free_bytes: int
    buffer_bytes: int
    matmul_block_tiles: int
    subblock_tiles: int
    attention_chunk: int
    linear_columns: int
    rms_norm_columns: int
    statistics_columns: int
    layer_norm_columns: int
    topk_columns: int


@dataclass(frozen=True)
class Trays:
    """How the chips of a Galaxy lie on its four trays, by which ttnn knows that its rings are closed.

    `board`, `board_serial`: how each chip presents itself to umd; `quarters`: number and first bus of the tray in each quarter of the mesh, row by row.
    """

    board: str
    board_serial: int
    quarters: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Prefetcher:
    """Cores of a chip where some stream the weights of matmuls from DRAM while the others compute.

    `grid`: of a mesh whose dispatch cores are a column; `senders`: the core that streams each DRAM bank, to the next `receivers` in its row;
    `workers`: the rectangles that compute; `ring`: the receivers in the order in which they hand on their parts of a matmul's input, over
    the core `hop`; `buffer_bytes`: of L1 of each core, where weights arrive.
    """

    grid: tuple[int, int]
    senders: tuple[tuple[int, int], ...]
    receivers: int
    workers: tuple[Range, ...]
    ring: tuple[tuple[int, int], ...]
    hop: tuple[int, int]
    buffer_bytes: int
    least_bytes: int

    @property
    def received(self) -> tuple[tuple[int, int], ...]:
        """The receivers, a sender's one after the other."""
        return tuple((x + n, y) for x, y in self.senders for n in range(1, self.receivers + 1))

    @property
    def few(self) -> int:
        """A value that divides over fewer cores than this lies on those that receive, where the last one's columns are filled up."""
        return len(self.ring) // 4

    def slice_bytes(self, k: int, n: int, bytes_of: float) -> int:
        """What a receiver holds of a weight of so many tiles: all of its columns, the rows padded to the ring."""
        ring = len(self.ring)
        return int(-(-k // ring) * ring * -(-n // ring) * 1024 * bytes_of)

    def streamed_bytes(self, k: int, n: int, bytes_of: float) -> int:
        """What all receivers hold of it, which is what comes from DRAM."""
        return len(self.ring) * self.slice_bytes(k, n, bytes_of)


@dataclass(frozen=True)
class Target:
    """A mesh of chips. Bandwidths in bytes/s, FLOP rates in FLOP/s, times in seconds, sizes in bytes, all per chip."""

    name: str
    mesh_shape: tuple[int, int]
    torus: bool
    arch: str
    board: str
    board_serial: int
    tensix_harvesting: int  # bit masks of what is switched off on each chip
    eth_harvesting: int
    pcie_harvesting: int
    ethernet_channels: int
    links: int
    grid: tuple[int, int]
    dram_banks: int
    dram_readers: int
    dram_bytes: int
    dram_bandwidth: float
    dram_bandwidth_measured: float
    l1_bytes: int
    l1_usable_bytes: int
    l1_small_bytes: int
    channel_bandwidth: float
    flops_lofi: float
    flops_hifi2: float
    flops_hifi3: float
    flops_hifi4: float
    max_batch: int
    costs: Costs
    limits: Limits
    trays: Trays | None  # none where the chips are boards of their own
    exact_fidelity: str  # the most exact math fidelity whose products are right when they are summed in float32
    prefetcher: Prefetcher | None = None  # none where nobody knows the cores
    prefetching: bool = False  # whether the layers' weights are streamed by it
    stream_share: float = 0.0  # of the time in which a weight arrives, that planning counts beside its matmul

    @property
    def working_prefetcher(self) -> Prefetcher | None:
        """The prefetcher where it is at work."""
        return self.prefetcher if self.prefetching else None

    def with_prefetcher(self, stream_share: float = 0.0) -> Target:
        """The same machine with the prefetcher at work."""
        assert self.prefetcher is not None
        return replace(self, grid=self.prefetcher.grid, prefetching=True, stream_share=stream_share)

    @property
    def link_bandwidth(self) -> float:
        """Bytes/s and direction between two neighbours, over all channels between them."""
        return self.links * self.channel_bandwidth

    @property
    def simulator_library(self) -> str:
        """File of the vendor's simulator of so many of these chips, as its releases and its build call it."""
        chip = "wh" if self.arch == "wormhole_b0" else "bh"
        return f"libttsim_{chip}.so" if self.chips == 1 else f"libttsim_{chip}_x{self.chips}.so"

    @property
    def fabric(self) -> str:
        """The configuration of the links, by ttnn's name: a ring where an axis closes, which takes more than two chips."""
        return "FABRIC_1D_RING" if self.torus and max(self.mesh_shape) > 2 else "FABRIC_1D"

    def readers_of_a_bank(self, columns: int) -> int:
        """How many cores stream a DRAM bank's share of a weight of so many columns: as many as divide it into whole tiles.

        Each of several needs columns of its own: of 90 tiles over 8 banks 16 cores of 6 tiles leave the last one without, which ttnn refuses.
        """
        share = -(-tiles(columns) // self.dram_banks)

        def taken(readers: int) -> bool:
            return share % readers == 0 and share // readers * (readers * self.dram_banks - 1) < tiles(columns)

        return max((readers for readers in range(2, self.dram_readers + 1) if taken(readers)), default=1)

    @property
    def chips(self) -> int:
        return self.mesh_shape[0] * self.mesh_shape[1]


def names() -> list[str]:
    """Names of the known targets."""
    return sorted(path.stem for path in shipped(_HERE, "*.toml"))


def load(name: str) -> Target:
    """The target called `name`; raises UserError with the known names for any other."""
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UserError(f"unknown target {name!r}: known are {', '.join(names())}{hint}")
    machine = _read(_HERE / f"{name}.toml")
    chip = _read(shipped(_HERE / "chips", f"{machine.pop('chip')}.toml")[0])
    limits, costs = Limits(**chip.pop("limits")), Costs.model_validate(chip.pop("cost"))
    trays = machine.pop("trays", None)
    if trays is not None:
        trays = Trays(**{field: _tuples(value) for field, value in trays.items()})
    prefetcher = machine.pop("prefetcher", None)
    if prefetcher is not None:
        prefetcher = Prefetcher(**{field: _tuples(value) for field, value in prefetcher.items()})
    fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in {**chip, **machine}.items()}
    return Target(name=name, limits=limits, costs=costs, trays=trays, prefetcher=prefetcher, **fields)


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _read(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text())
