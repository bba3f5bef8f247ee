"""How fast a step can be at best on a target: predicted lower bounds from bytes and FLOPs alone.

Nothing is counted but bytes over bandwidth and FLOPs over rate: no cost of starting an op, no padding, no host. A step lasts at
least as long as the busiest of DRAM, compute and links, even if everything else hides behind it. All FLOPs are taken at the matrix
engine's rate, which is above that of the vector engine, and activations are taken to stay in L1, so the bounds stay bounds.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

from fx2ttnn.ir import Capture, Op
from fx2ttnn.plan import Plan
from fx2ttnn.plan.device_shape import local_shape
from fx2ttnn.plan.segments import layer_counts
from fx2ttnn.precision import Precision
from fx2ttnn.profile.census import runs
from fx2ttnn.profile.figures import Figure, figures
from fx2ttnn.profile.work import Meter
from fx2ttnn.targets import Target

EVEN, PLACED = "even split", "as placed"
BANDWIDTHS = {"data sheet": "dram_bandwidth", "measured": "dram_bandwidth_measured"}
# How often the bytes of the whole value pass a chip's links: an all-reduce is a reduce-scatter and an all-gather.
_PASSES = {"all_gather": 1, "reduce_scatter": 1, "all_reduce": 2}


@dataclass(frozen=True)
class OpBound:
    """Least time of one run of an op on one chip, by resource, in seconds."""

    op: str
    module: str
    value: str
    count: int
    dram_seconds: float
    compute_seconds: float
    link_seconds: float

    @property
    def seconds(self) -> float:
        return max(self.dram_seconds, self.compute_seconds, self.link_seconds)

    @property
    def bound_by(self) -> str:
        return _busiest(self.dram_seconds, self.compute_seconds, self.link_seconds)


@dataclass(frozen=True)
class Roofline:
    """Predicted lower bound of a step. `split`: over the chips evenly, or as a plan placed it (then with links).

    `bandwidth` says which DRAM bandwidth was used; `rests_on` holds it and the other figures.
    """

    split: str
    bandwidth: str
    ops: tuple[OpBound, ...]
    rests_on: tuple[Figure, ...]

    def _sum(self, resource: str) -> float:
        return sum(op.count * getattr(op, f"{resource}_seconds") for op in self.ops)

    @property
    def dram_seconds(self) -> float:
        return self._sum("dram")

    @property
    def compute_seconds(self) -> float:
        return self._sum("compute")

    @property
    def link_seconds(self) -> float:
        return self._sum("link")

    @property
    def seconds(self) -> float:
        """Least time of a step: that of the busiest resource."""
        return max(self.dram_seconds, self.compute_seconds, self.link_seconds)

    @property
    def serial_seconds(self) -> float:
        """Least time of a step whose ops run one after another, none hiding behind another."""
        return sum(op.count * op.seconds for op in self.ops)

    @property
    def bound_by(self) -> str:
        return _busiest(self.dram_seconds, self.compute_seconds, self.link_seconds)

    @property
    def tokens_per_second_per_user(self) -> float:
        """At most; a step gives each user one token."""
        return 1 / self.seconds

    def to_json(self) -> dict[str, Any]:
        return {
            "split": self.split,
            "dram_bandwidth": self.bandwidth,
            "dram_seconds": self.dram_seconds,
            "compute_seconds": self.compute_seconds,
            "link_seconds": self.link_seconds,
            "bound_by": self.bound_by,
            "step_seconds_at_least": self.seconds,
            "step_seconds_at_least_without_overlap": self.serial_seconds,
            "tokens_per_second_per_user_at_most": self.tokens_per_second_per_user,
            "rests_on": [vars(figure) for figure in self.rests_on],
            "ops": [{**vars(op), "bound_by": op.bound_by} for op in self.ops],
        }


def rooflines(capture: Capture, target: Target, precision: Precision, plan: Plan | None = None) -> tuple[Roofline, ...]:
    """For each DRAM bandwidth the bound of an even split, and with a plan that of its placements."""
    found = [_even(capture, target, precision, bandwidth) for bandwidth in BANDWIDTHS]
    if plan is not None:
        found += [_placed(plan, bandwidth) for bandwidth in BANDWIDTHS]
    return tuple(found)


def _even(capture: Capture, target: Target, precision: Precision, bandwidth: str) -> Roofline:
    """Every chip does the same share of each op; nothing passes the links."""
    meter, counts = Meter(capture.graph, precision, capture.users), layer_counts(capture.graph)
    ops = [op for op in capture.graph.ops if op.name != "layer"]
    bounds = [_bound(op, runs(op, counts), meter, target, precision, bandwidth, target.chips) for op in ops]
    return Roofline(EVEN, bandwidth, tuple(bounds), _rests_on(target, precision, bandwidth, ()))


def _placed(plan: Plan, bandwidth: str) -> Roofline:
    """Every chip does what the plan gave it."""
    target, counts = plan.target, plan_counts(plan)
    meter = Meter(plan.graph, plan.precision, plan.capture.users, lambda value: _local(plan, value))
    bounds = [
        _bound(op, runs(op, counts), meter, target, plan.precision, bandwidth, link=link_seconds(op, plan))
        for op in plan.graph.ops
    ]
    return Roofline(
        PLACED, bandwidth, tuple(bounds), _rests_on(target, plan.precision, bandwidth, ("channel_bandwidth",))
    )


def plan_counts(plan: Plan) -> dict[str, int]:
    """How many layers of the model each spelled-out layer of a plan stands for."""
    return {part.layer: part.count for part in plan.segments if part.layer}


def _bound(
    op: Op,
    count: int,
    meter: Meter,
    target: Target,
    precision: Precision,
    bandwidth: str,
    chips: int = 1,
    link: float = 0.0,
) -> OpBound:
    work = meter.work(op)
    dram = work.dram_bytes / chips / getattr(target, BANDWIDTHS[bandwidth])
    compute = work.flops / chips / precision.flops(target)
    return OpBound(op.name, op.module, op.outputs[0], count, dram, compute, link)


def link_seconds(op: Op, plan: Plan) -> float:
    """Bytes that each chip must receive in a collective, over the links it receives them by: two on a ring, one on a line.

    Of a value of V bytes split over n chips, V (n - 1) / n (each chip lacks all parts but its own); twice for an all-reduce.
    """
    if op.name not in _PASSES:
        return 0.0
    chips = plan.target.mesh_shape[op.attrs["axis"]]
    elements = max(prod(_local(plan, value)) for value in (*op.inputs, *op.outputs))
    whole = elements * plan.precision.bytes_of("activations")
    links = 2 if plan.target.torus and chips > 2 else 1
    return _PASSES[op.name] * whole * (chips - 1) / chips / (links * plan.target.link_bandwidth)


def _local(plan: Plan, value: str) -> tuple[int, ...]:
    spec = plan.graph.specs[value]
    placement = plan.placements.get(value)
    return local_shape(spec, placement, plan.target.mesh_shape) if placement else spec.shape


def _rests_on(target: Target, precision: Precision, bandwidth: str, more: tuple[str, ...]) -> tuple[Figure, ...]:
    return figures(target, BANDWIDTHS[bandwidth], precision.rate(target), *more)


def _busiest(dram: float, compute: float, link: float) -> str:
    times = {"DRAM": dram, "compute": compute, "links": link}
    return max(times, key=lambda name: times[name]) if any(times.values()) else "nothing"
