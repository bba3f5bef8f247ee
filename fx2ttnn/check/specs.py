"""Tensor specs of report/modules.json: making a module's inputs, and comparing its outputs."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

import torch
import ttnn

_HOST_DTYPES = {"int32": torch.int32, "uint32": torch.int32, "uint16": torch.int32, "float32": torch.float32}


class Specs:
    """Reads specs with the names of one package: its model_config and its `to_mesh`."""

    def __init__(self, device: Any, cfg: Any, to_mesh: Any):
        self._device, self._cfg, self._to_mesh = device, cfg, to_mesh

    def make(self, spec: dict[str, Any]) -> Any:
        """A tensor on the mesh as `spec` says, put there by the package's own code."""
        whole = list(spec["shape"])
        for dim, parts in zip(spec["mesh_dims"], self._cfg.MESH_SHAPE, strict=True):
            if dim is not None:
                whole[dim] *= parts
        host = torch.empty(whole, dtype=_HOST_DTYPES.get(spec["dtype"], torch.bfloat16), device="meta")
        return self._to_mesh(
            self._device,
            host,
            tuple(spec["mesh_dims"]),
            getattr(ttnn, spec["dtype"]),
            getattr(ttnn, f"{spec['layout']}_LAYOUT"),
            self._memory_config(spec),
        )

    def mismatches(self, planned: Sequence[dict[str, Any]], found: Any) -> list[str]:
        """One sentence for each output that is not as planned."""
        outputs = list(found) if isinstance(found, (tuple, list)) else [found]
        if len(outputs) != len(planned):
            return [f"{len(planned)} outputs are planned, forward returns {len(outputs)}"]
        return [text for spec, tensor in zip(planned, outputs, strict=True) for text in self._compare(spec, tensor)]

    def _compare(self, spec: dict[str, Any], tensor: Any) -> list[str]:
        wanted, real = self._memory_config(spec), tensor.memory_config()
        pairs = [
            ("shape on a chip", spec["shape"], list(tensor.shape)),
            ("data type", spec["dtype"], tensor.dtype.name.lower()),
            ("layout", spec["layout"], tensor.layout.name.removesuffix("_LAYOUT")),
        ]
        if not _same_memory(wanted, real):
            pairs.append(("memory config", describe(wanted), describe(real)))
        return [f"output {spec['name']}: {what} {a} is planned, {b} comes out" for what, a, b in pairs if a != b]

    def _memory_config(self, spec: dict[str, Any]) -> Any:
        return self.named(spec["memory_config"])

    def named(self, source: str) -> Any:
        """What a name in cfg or ttnn, or a literal, stands for."""
        owner, _, name = source.partition(".")
        holders = {"cfg": self._cfg, "ttnn": ttnn}
        return getattr(holders[owner], name) if owner in holders else ast.literal_eval(source)


def _same_memory(planned: Any, real: Any) -> bool:
    """Whether a tensor lies as planned; a plan without shards leaves them to the operation."""
    kinds = [(c.memory_layout, c.buffer_type) for c in (planned, real)]
    if planned.shard_spec is not None and planned.shard_spec.grid.num_cores() == 1:
        return (planned.buffer_type, planned.shard_spec) == (
            real.buffer_type,
            real.shard_spec,
        )  # one shard has no direction
    if planned.shard_spec is None or kinds[0] != kinds[1]:
        return kinds[0] == kinds[1]
    return planned.shard_spec == real.shard_spec


def describe(config: Any) -> str:
    """A memory config in a few words."""
    words = f"{config.memory_layout.name} in {config.buffer_type.name}"
    shards = config.shard_spec
    return words if shards is None else f"{words}, shards of {list(shards.shape)} on {_cores(shards.grid)}"


def _cores(grid: Any) -> str:
    return " + ".join(f"({r.start.x},{r.start.y})-({r.end.x},{r.end.y})" for r in grid.ranges())
