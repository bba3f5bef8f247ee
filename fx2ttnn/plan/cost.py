"""Predicted time of an op or a collective on one chip, in seconds, from figures of the target description.

A roofline with fixed costs: bytes over bandwidth or FLOPs over rate, whichever is longer, plus the cost of starting an op.
It ranks plans; it is a prediction, and reports call it so.
"""

from __future__ import annotations

from math import prod

from fx2ttnn.ir import Graph, Op, Placement
from fx2ttnn.plan.collectives import Step
from fx2ttnn.plan.device_shape import local_shape
from fx2ttnn.plan.memory import dram_elements
from fx2ttnn.precision import PRECISIONS, Precision
from fx2ttnn.targets import Target


def op_seconds(
    op: Op, graph: Graph, inputs: tuple[Placement, ...], users: int, target: Target, precision: Precision
) -> float:
    """Time of `op` when its inputs lie as given, for `users` with full caches."""
    start = target.op_seconds + target.op_gap_seconds
    mesh = target.mesh_shape
    read = flops = 0.0
    if op.name == "linear":
        rows = prod(local_shape(graph.specs[op.inputs[0]], inputs[0], mesh)[:-1])
        for value, placement in zip(op.inputs[1:], inputs[1:], strict=True):
            shape = local_shape(graph.specs[value], placement, mesh)
            read += dram_elements(shape, target) * precision.bytes_of("weights")
            flops += 2 * rows * prod(shape)
    elif op.name == "attention":
        for value, placement in zip(op.inputs[1:3], inputs[1:3], strict=True):
            rows, *rest = local_shape(graph.specs[value], placement, mesh)
            read += min(rows, users) * prod(rest) * precision.bytes_of("cache")
        query, keys = (local_shape(graph.specs[v], p, mesh) for v, p in zip(op.inputs[:2], inputs[:2], strict=True))
        seen = keys[2] / (2 if query[2] > 1 else 1)  # of a chunk each token sees what is before it
        half_rate = precision.flops(target) / PRECISIONS["accuracy"].flops(
            target
        )  # the rows ask for the most exact products
        flops = 4 * prod(query) * seen * half_rate
    elif op.name in ("rms_norm", "layer_norm"):
        rank = len(graph.specs[op.inputs[0]].shape)
        for axis in inputs[0].axes_of(rank - 1):  # the statistics of the parts are exchanged
            start += 2 * (target.op_seconds + target.op_gap_seconds) + collective_seconds(
                64, target.mesh_shape[axis], target
            )
    return start + max(read / target.dram_bandwidth_measured, flops / precision.flops(target))


def step_seconds(step: Step, graph_spec, before: Placement, target: Target, precision: Precision) -> float:
    """Time of one collective of a value that lay as `before`."""
    n = target.mesh_shape[step.axis]
    if step.name == "mesh_partition":
        return target.op_seconds + target.op_gap_seconds
    sizes = [prod(local_shape(graph_spec, p, target.mesh_shape)) for p in (before, step.after)]
    moved = max(sizes) * precision.bytes_of("activations")
    once = collective_seconds(moved, n, target)
    return 2 * once if step.name == "all_reduce" else once  # an all-reduce is a reduce-scatter and an all-gather


def collective_seconds(size: float, n: int, target: Target) -> float:
    """Time of a ring all-gather or reduce-scatter over `n` chips whose whole value has `size` bytes."""
    return (
        target.collective_seconds
        + target.op_gap_seconds
        + (n - 1) * target.hop_seconds
        + size * (n - 1) / n / target.link_bandwidth
    )
