"""Sizes of the whole model: parameters, KV cache, FLOPs."""

from __future__ import annotations

from dataclasses import dataclass

from fx2ttnn.ir import Capture
from fx2ttnn.plan.gates import gate_parameters
from fx2ttnn.plan.segments import layer_counts
from fx2ttnn.precision import BYTES, Precision
from fx2ttnn.profile.census import Row
from fx2ttnn.profile.work import role


@dataclass(frozen=True)
class Totals:
    """`parameters` counts a tied tensor once. Bytes are of one copy over the whole mesh, without padding.

    `device_bytes`: parameters in the precision's data types; a head tied to the embedding is stored a second time, as the table
    and the matrix differ in type. `cache_bytes_per_token`: keys and values of one position of one user, in all layers.
    FLOPs are those of a full cache; per step with rows that idle, per token without.
    """

    layers: int
    parameters: int
    checkpoint_bytes: int
    device_bytes: int
    cache_bytes_per_token: float
    cache_bytes: int
    flops_per_step: int
    flops_per_token: int
    activation_bytes_per_step: int


def totals(capture: Capture, rows: tuple[Row, ...], precision: Precision) -> Totals:
    """Totals of a recognised capture whose census is `rows`."""
    written = sum(row.count * row.work.cache_bytes for row in rows if row.op == "update_cache")
    count = parameter_count(capture)
    users = users_of(capture)
    per_token = written / users
    return Totals(
        layers=sum(layer_counts(capture.graph).values()),
        parameters=count,
        checkpoint_bytes=int(count * BYTES["bfloat16"]),
        device_bytes=int(device_bytes(capture, precision)),
        cache_bytes_per_token=per_token,
        cache_bytes=int(per_token * users * capture.max_seq_len),
        flops_per_step=sum(row.flops for row in rows),
        flops_per_token=sum(row.flops // (users if row.op == "attention" else capture.batch) for row in rows),
        activation_bytes_per_step=int(sum(row.count * row.work.activation_bytes for row in rows)),
    )


def users_of(capture: Capture) -> int:
    """How many of the rows of a step are in use: all where the capture does not say."""
    return capture.users or capture.batch


def parameter_count(capture: Capture) -> int:
    """Numbers in the checkpoint; what is stored under two names counts once."""
    return sum(spec.numel for name, spec in capture.parameter_specs.items() if name not in capture.tied)


def device_bytes(capture: Capture, precision: Precision) -> float:
    """Bytes of all parameters in the data types of `precision`."""
    graph = capture.graph
    tables = {graph.parameters[op.inputs[1]] for op in graph.ops if op.name == "embedding"}
    of_gates = {graph.parameters[value] for value in gate_parameters(graph)}
    total = 0.0
    for name, spec in capture.parameter_specs.items():
        if name in capture.tied and capture.tied[name] not in tables:
            continue
        total += spec.numel * precision.bytes_of("small" if name in tables else role(spec.shape, name in of_gates))
    return total
