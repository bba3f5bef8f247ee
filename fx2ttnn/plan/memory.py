"""DRAM that weights and KV cache take on each chip."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from fx2ttnn.errors import UserError
from fx2ttnn.ir import Capture, Graph, Placement
from fx2ttnn.names import layer_of
from fx2ttnn.plan.device_shape import local_shape
from fx2ttnn.plan.gates import gate_parameters
from fx2ttnn.plan.segments import layer_counts
from fx2ttnn.precision import Precision
from fx2ttnn.targets import Target
from fx2ttnn.tiles import TILE, tiles


def dram_elements(shape: tuple[int, ...], parts: int) -> int:
    """Elements that a weight [N, K] takes on a chip.

    Its columns lie in whole tiles over the DRAM banks, or where it is prefetched over their receivers: so many `parts` (rules of matmul.toml).
    """
    n, k = shape if len(shape) == 2 else (shape[0], 1)
    return -(-tiles(n) // parts) * TILE * parts * k


def dram_per_chip(
    capture: Capture, placements: Mapping[str, Placement], graph: Graph, target: Target, precision: Precision
) -> dict[str, int]:
    """Bytes per chip for `weights`, `embedding` and `cache`, over all layers of the model, weights padded to the banks."""
    copies = layer_counts(capture.graph)
    embeddings = {op.inputs[1] for op in graph.ops if op.name == "embedding"}
    of_gates = gate_parameters(graph)
    found = {"weights": 0.0, "embedding": 0.0, "cache": 0.0}
    for value, name in graph.parameters.items():
        if value not in placements:
            continue
        spec = graph.specs[value]
        role = "weights" if len(spec.shape) > 1 and value not in embeddings else "small"
        shape = local_shape(spec, placements[value], target.mesh_shape)
        bytes_of = precision.bytes_of("gates" if role == "weights" and value in of_gates else role)
        prefetched = target.working_prefetcher if layer_of(name) else None
        parts = len(prefetched.ring) if prefetched else target.dram_banks
        size = (dram_elements(shape, parts) if role == "weights" else prod(shape)) * bytes_of
        found["embedding" if value in embeddings else "weights"] += size * copies.get(layer_of(name) or "", 1)
    for op in graph.ops:
        if op.name == "update_cache":
            count = copies.get(layer_of(op.module) or "", 1)
            for out in op.outputs:
                rows, *rest = local_shape(graph.specs[out], placements[out], target.mesh_shape)
                divided = bool(placements[out].axes_of(0))
                size = (min(rows, capture.users) + divided) * prod(rest)  # spare pages: see rule cache.toml
                found["cache"] += size * precision.bytes_of("cache") * count
    return {k: int(v) for k, v in found.items()}


def check_dram(dram: Mapping[str, int], target: Target, capture: Capture) -> None:
    """UserError with what would help, where weights and cache exceed the chip's DRAM."""
    total = sum(dram.values())
    if total <= target.dram_bytes:
        return
    parts = ", ".join(f"{k} {v / 1e9:.2f} GB" for k, v in dram.items())
    fixed = total - dram["cache"]
    help_ = "use a target with more chips"
    if fixed < target.dram_bytes and dram["cache"]:
        fits = int((target.dram_bytes - fixed) / dram["cache"] * capture.max_seq_len) // 64 * 64
        help_ = f"a --max-seq-len of {fits} would fit, or a target with more chips" if fits else help_
    raise UserError(
        f"{capture.model_name} needs {total / 1e9:.2f} GB of DRAM on each chip of {target.name} ({parts}), "
        f"which has {target.dram_bytes / 1e9:.0f} GB: {help_}"
    )
