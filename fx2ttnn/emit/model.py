"""The model file: what stands before the layers, the loop over them, what stands behind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fx2ttnn.emit.code import Names, Writer
from fx2ttnn.emit.units import Unit, attribute_of, identifier
from fx2ttnn.lower.values import Lowered
from fx2ttnn.plan import Plan
from fx2ttnn.plan.segments import layer_of


def model_context(
    plan: Plan, lowered: Lowered, root: Unit, writer: Writer, layers: Mapping[str, str]
) -> dict[str, Any]:
    """What the template of model.py needs."""
    names = Names(root, lowered, writer.preferred)
    loop_units = [item for item in root.items if isinstance(item, Unit) and layer_of(item.path) == item.path]
    first, last = root.items.index(loop_units[0]), root.items.index(loop_units[-1])
    before: list[str] = []
    after: list[str] = []
    loop = ""
    layer_states = [v for v in loop_units[0].inputs if lowered.states.get(v) == "layer"]
    for index, item in enumerate(root.items):
        if item in loop_units:
            unit = loop_units[0]
            assert isinstance(item, Unit)
            hidden = names.of[item.inputs[0]]
            names.of.update(dict.fromkeys(item.outputs, hidden))
            arguments = [
                _cache(v, layer_states) if lowered.states.get(v) == "layer" else names.of[v] for v in unit.inputs
            ]
            loop = f"{hidden} = layer.forward({', '.join(arguments)})"
        else:
            (before if index < first else after).append(writer.statement(item, root, names, index))
    assert last >= first
    others = [item for item in root.items if isinstance(item, Unit) and item not in loop_units]
    inits = [(attribute_of(k, root, lowered), writer.load(lowered.parameters[k], root)) for k in root.parameters]
    inits += [(unit.attribute, f"{unit.class_name}(mesh_device, weights.at({unit.path!r}))") for unit in others]
    classes = {unit.path: unit.class_name for unit in loop_units}
    arguments = [names.of[v] for v in root.inputs if lowered.states.get(v) != "layer"]
    logits = lowered.tensors[lowered.outputs[0]]
    cache = lowered.tensors[layer_states[0]]
    text = "\n".join(before + after)
    return {
        "title_doc": identifier(plan.capture.model_name).strip("_"),
        "target": plan.target,
        "uses_ccl": "ccl." in text,
        "imports": sorted({(u.file, u.class_name) for u in [*others, *loop_units]}),
        "class_name": root.class_name,
        "num_layers": len(layers),
        "layer_classes": _layer_classes([classes[like] for like in layers.values()]),
        "layers_path": next(iter(layers)).rsplit(".", 1)[0],
        "inits": inits,
        "cache_dtype": cache.dtype,
        "cache_shapes": [lowered.tensors[v].shape for v in layer_states],
        "users_per_chip": lowered.tensors["page_table"].shape[0],
        "arguments": arguments,
        "prepared": [(names.of[v], prepare(v, lowered)) for v in root.inputs if lowered.states.get(v) != "layer"],
        "before": before,
        "loop": loop,
        "after": after,
        "result": names.of[lowered.outputs[0]],
        "logits_dims": logits.mesh_dims,
    }


def _cache(value: str, layer_states: list[str]) -> str:
    return f"cache[{layer_states.index(value)}]"


def _layer_classes(names: list[str]) -> str:
    if len(set(names)) == 1:
        return f"[{names[0]}] * {len(names)}"
    return "[" + ", ".join(names) + "]"


def prepare(value: str, lowered: Lowered, prefix: str = "self.") -> str:
    """Expression that puts one input of the decode step on the mesh."""
    tensor = lowered.tensors[value]
    host = {
        "page_table": "decode_rows(page_table, 0)",
        "current_pos": "decode_rows(positions, -1)",
        "position_ids": "decode_tokens(positions.clamp(min=0))",
    }.get(
        value.split(".")[0].rstrip("_0123456789") if value not in ("page_table", "current_pos") else value,
        "decode_tokens(tokens)",
    )
    return f"to_mesh({prefix}mesh_device, {host}, {tensor.mesh_dims}, ttnn.{tensor.dtype}, ttnn.{tensor.layout}_LAYOUT)"
