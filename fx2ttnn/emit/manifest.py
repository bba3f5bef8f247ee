"""report/modules.json: the emitted classes with what goes in and out of each, for check and other tools."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from fx2ttnn.emit.code import Writer
from fx2ttnn.emit.units import Unit
from fx2ttnn.lower.program import Program
from fx2ttnn.lower.values import Lowered
from fx2ttnn.names import layer_of


def manifest(program: Program, root: Unit, writer: Writer, layers: Mapping[str, str]) -> list[dict[str, Any]]:
    """One entry for each distinct class and what it is built with, children before parents, the model last; `count` is how often the model has it.

    `methods` holds what goes in and out of each forward: decode_forward, and that of prefill at each length of a chunk.
    """
    counts = Counter(layers.values())
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for unit in root.tree():
        layer = layer_of(unit.path)
        count = counts[layer] if layer else 1
        arguments = {name: writer.given(unit, name) for name in unit.arguments}
        built = (unit.class_name, *arguments.values())
        if built in rows:
            rows[built]["count"] += count
            continue
        rows[built] = {
            "path": unit.path,
            "file": unit.file,
            "class": unit.class_name,
            "arguments": arguments,
            "layer": layer_of(unit.path) == unit.path and bool(unit.path),
            "count": count,
            "methods": [
                {
                    "name": f"{mode}_forward" if unit.path else f"{mode.removeprefix('short_')}_forward",
                    "tokens": tokens,
                    "inputs": [_tensor(v, n, lowered, writer) for v, n in writer.arguments(unit, mode).items()],
                    "outputs": [
                        _tensor(v, writer.preferred[mode][v], lowered, writer) for v in unit.bodies[mode].outputs
                    ],
                }
                for mode, tokens, lowered in _graphs(program)
                if mode in unit.bodies and (unit.path or mode != "sample")
            ],
        }
    return list(rows.values())


def _graphs(program: Program) -> list[tuple[str, int, Lowered]]:
    sampling = [] if program.sampling is None else [("sample", 1, program.sampling)]
    prefill = [(mode, n, graph) for mode, found in program.by_mode.items() for n, graph in found.items()]
    return [("decode", 1, program.decode), *prefill, *sampling]


def _tensor(value: str, name: str, lowered: Lowered, writer: Writer) -> dict[str, Any]:
    tensor = lowered.tensors[value]
    return {
        "name": name,
        "shape": list(tensor.shape),
        "dtype": tensor.dtype,
        "layout": tensor.layout,
        "memory_config": writer.configs.memory(lowered, value),
        "mesh_dims": list(tensor.mesh_dims),
        "kind": _kind(value, lowered),
    }


def _kind(value: str, lowered: Lowered) -> str:
    if value in lowered.states:
        return f"{lowered.states[value]}_state"
    return "input" if value in lowered.inputs else "activation"
