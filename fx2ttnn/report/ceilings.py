"""What a decode layer takes at least, by each thing that bounds it alone, beside its predicted time: what binds next, once the others are hidden or gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fx2ttnn import targets
from fx2ttnn.cost.calls import Load
from fx2ttnn.cost.kernels import COMPUTE, DRAM, FIXED, LATENCY, LINKS, PER_MICROSECOND
from fx2ttnn.report.data import Report
from fx2ttnn.report.device_ops import StepOp, StepOps
from fx2ttnn.report.text import plural, size

_BLOCKS = {DRAM, COMPUTE, LATENCY}  # what a matmul's blocks take, whichever is longest


@dataclass(frozen=True)
class Ceiling:
    """Microseconds of a layer that one thing takes, for each load; `how`: from what. `bound`: it takes no less in whatever way it is done."""

    name: str
    how: str
    us: tuple[float, ...]
    bound: bool = True


@dataclass(frozen=True)
class Ceilings:
    """Of one layer: `predicted` microseconds, one for each of `loads`, what bounds them, `rest`: all but matmuls, one after
    another, and `prefetcher`: what streaming the weights takes behind other operations."""

    layer: str
    loads: tuple[Load, ...]
    predicted: tuple[float, ...]
    rest: tuple[float, ...]
    prefetcher: float
    found: tuple[Ceiling, ...]

    def percent(self, ceiling: Ceiling, load: int) -> float:
        """Of the predicted time under that one of the loads."""
        return 100 * ceiling.us[load] / self.predicted[load] if self.predicted[load] else 0.0

    @property
    def binds(self) -> Ceiling:
        """The highest under the first load: no layer gets below it, whatever becomes of the others."""
        return max((ceiling for ceiling in self.found if ceiling.bound), key=lambda ceiling: ceiling.us[0])

    @property
    def prefetched(self) -> tuple[float, ...]:
        """At least so long is a layer whose weights are read behind all that is not a matmul: for each load, in microseconds."""
        return tuple(max(self.prefetcher, rest) for rest in self.rest)


def ceilings(report: Report, part: Mapping[str, Any]) -> Ceilings:
    """Of a layer of decode, for all users with a short text and with full caches."""
    mode, target = report.graph["modes"]["decode"], targets.load(report.graph["target"])
    loads = tuple(Load(load["users"], load["context"]) for load in mode["loads"] if load["users"] == mode["users"])
    steps = [[*StepOps(report, load).of_part(part, mode["gap_us"])] for load in loads]
    ops, stream = steps[-1], target.dram_bandwidth_measured
    collectives = [op for op in ops if op.collective]
    hops = sum(op.parts.get(LATENCY, 0.0) for op in collectives)
    start = sum(op.parts[FIXED] for op in collectives)
    weights = part["weights"]

    def same(us: float) -> tuple[float, ...]:
        return (us,) * len(loads)

    def read(what: str) -> tuple[str, tuple[float, ...]]:
        return f"{size(weights[what])} at {stream / 1e9:g} GB/s", same(1e6 * weights[what] / stream)

    products = 1e6 * sum(node["bound"]["compute"] for node in part["nodes"])
    found = (
        Ceiling("weights", *read("bytes")),
        Ceiling("weights, padded to the DRAM banks", *read("padded_bytes")),
        Ceiling("KV cache", "as attention reads it", tuple(map(_cache, steps))),
        Ceiling("products", "at the peak of the whole grid", same(products)),
        Ceiling("links", "bytes of all collectives, as they send them", same(sum(op.parts[LINKS] for op in collectives))),
        Ceiling(
            "latency of collectives",
            f"{plural(len(collectives), 'collective')}: {start:.1f} µs to start, {hops:.1f} of hops",
            same(start + hops),
        ),
        Ceiling("launches", f"{plural(len(ops), 'device operation')}, {mode['gap_us']:g} µs before each", same(sum(op.gap for op in ops))),
        Ceiling("matmuls", "reading weights or multiplying, whichever is longer", same(sum(map(_matmul, ops))), bound=False),
        Ceiling("kernels", "what else they take: to start, and work on activations", same(sum(map(_else, ops)))),
    )  # fmt: skip
    predicted = tuple(sum(op.us for op in step) for step in steps)
    rest = tuple(sum(op.us for op in step if not op.streams_weights) for step in steps)
    prefetcher = weights["padded_bytes"] / (target.costs.ring_matmul.stream * PER_MICROSECOND)
    return Ceilings(part["name"], loads, predicted, rest, prefetcher, found)


def _cache(ops: Sequence[StepOp]) -> float:
    return sum(op.parts[DRAM] for op in ops if op.reads_cache)


def _matmul(op: StepOp) -> float:
    return sum(op.parts.get(name, 0.0) for name in _BLOCKS) if op.streams_weights else 0.0


def _else(op: StepOp) -> float:
    """Microseconds of a kernel that no other ceiling counts: not weights, cache, products, nor exchange with other chips."""
    counted = {LINKS, FIXED, LATENCY} if op.collective else _BLOCKS if op.streams_weights else set()
    counted = counted | ({DRAM} if op.reads_cache else set())
    return sum(us for name, us in op.parts.items() if name not in counted)
