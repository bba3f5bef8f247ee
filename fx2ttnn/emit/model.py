"""The model file: what stands before the layers, the loop over them, what stands behind."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fx2ttnn.emit.code import Names, Writer
from fx2ttnn.emit.paging import paging
from fx2ttnn.emit.units import Unit
from fx2ttnn.lower.program import SHORT, Program
from fx2ttnn.lower.values import Lowered, Tensor
from fx2ttnn.names import identifier, layer_of
from fx2ttnn.recognise.tables import border_of


def model_context(program: Program, root: Unit, writer: Writer, layers: Mapping[str, str]) -> dict[str, Any]:
    """What the template of model.py needs."""
    plan, decode = program.plan, program.decode
    loop_units = [child for child in root.children if layer_of(child.path) == child.path]
    others = [child for child in root.children if child not in loop_units and "sample" not in child.bodies]
    inits = writer.inits(root)
    inits += [(unit.attribute, writer.construct(unit)) for unit in others]
    arguments = [{name: writer.given(unit, name) for name in unit.arguments} for unit in loop_units]
    classes = {unit.path: unit.class_name for unit in loop_units}
    caches = [[decode.tensors[v] for v in _layer_states(unit, "decode")] for unit in loop_units]
    cache_shapes = [f"({', '.join(_cache_shape(tensor) for tensor in pair)})" for pair in caches]
    methods = {mode: _method(program, root, writer, mode, loop_units) for mode in program.plans}
    kinds = {unit.path: kind for kind, unit in enumerate(loop_units)}
    unlike_caches = cache_shapes != cache_shapes[:1] * len(cache_shapes)
    unlike_tables = any(method["tables"] for method in methods.values())
    differs = {"arguments": any(arguments), "caches": unlike_caches, "position tables": unlike_tables}
    text = "\n".join(line for m in methods.values() for line in m["before"] + m["after"])
    return {
        "title_doc": identifier(plan.capture.model_name).strip("_"),
        "target": plan.target,
        "uses_ccl": "ccl." in text,
        "uses_host": "host." in text,
        "imports": sorted({(u.file, u.class_name) for u in [*others, *loop_units]}),
        "class_name": root.class_name,
        "num_layers": len(layers),
        "layer_classes": _layer_classes([classes[like] for like in layers.values()]),
        "layer_kinds": [kinds[like] for like in layers.values()],
        "layers_path": next(iter(layers)).rsplit(".", 1)[0],
        "inits": inits,
        "cache_dtype": caches[0][0].dtype,
        "cache_shapes": cache_shapes,
        "spare_pages": paging(program)["groups"] > 1,
        "unlike_caches": unlike_caches,
        "layer_arguments": [_dict(kind) for kind in arguments] if any(arguments) else [],
        "kinds_differ_in": " and ".join(what for what, unlike in differs.items() if unlike),
        "methods": methods,
        "parts": parts_of_step(methods["decode"]) if plan.target.prefetching else None,
        "shorter": tuple(program.by_mode.get(SHORT, ())),
        "border": border_of(program.plan.capture.graph),
        "logits_dims": decode.tensors[decode.outputs[0]].mesh_dims,
    }


def _method(program: Program, root: Unit, writer: Writer, mode: str, loop_units: list[Unit]) -> dict[str, Any]:
    """The forward of one mode: lines before the loop over the layers, the loop, lines behind it."""
    body, lowered = root.bodies[mode], program.modes[mode]
    names = Names(body, writer.preferred[mode], mode)
    first = body.items.index(loop_units[0])
    before: list[str] = []
    after: list[str] = []
    tables: list[list[str]] = []  # what each kind of layer reads beside the hidden state, caches and the model's state
    for index, item in enumerate(body.items):
        if isinstance(item, Unit) and item in loop_units:
            layer = item.bodies[mode]
            hidden = names.of[layer.inputs[0]]
            names.of.update(dict.fromkeys(layer.outputs, hidden))
            caches = _layer_states(item, mode)
            tables.append([names.of[v] for v in layer.inputs[1:] if v not in lowered.states])
            held = [v for v in layer.inputs if v in lowered.states]
            states = [_cache(v, caches) if v in caches else names.of[v] for v in held]
        else:
            (before if index < first else after).append(writer.statement(item, root, names, index))
    alike = all(names_of_kind == tables[0] for names_of_kind in tables)
    arguments = [hidden, *(tables[0] if alike else ["*tables[kind]"]), *states]
    given = [v for v in body.inputs if lowered.states.get(v) != "layer"]
    in_parts = program.plan.target.prefetching and mode == "decode"
    read = dict.fromkeys(v for unit in loop_units for v in unit.bodies[mode].inputs if v not in lowered.states)
    handed = {names.of[v]: v for v in reversed(read)} if in_parts else {}  # the first layer's hidden state has its name
    return {
        "opening": list(writer.opening(body, names, [*before, *after])),
        "arguments": [names.of[v] for v in given],
        "prepared": [(names.of[v], prepare(v, lowered)) for v in given],
        "memories": {name: writer.configs.memory(lowered, v) for name, v in handed.items()},
        "before": before,
        "loop": f"{hidden} = layer.{mode}_forward({', '.join(arguments)})",
        "tables": [] if alike else [f"({', '.join(kind)}{',' * (len(kind) == 1)})" for kind in tables],
        "after": after,
        "result": names.of[lowered.outputs[0]],
    }


def parts_of_step(decode: Mapping[str, Any]) -> dict[str, Any]:
    """A decode step in three parts, of which the layers run beside the prefetcher: what each reads of the step's inputs, and what is handed on."""
    made = [name.strip() for line in decode["before"] if " = " in line for name in line.partition(" = ")[0].split(",")]
    hidden = decode["loop"].partition(" = ")[0]
    layers = " ".join([decode["loop"], *decode["tables"]])
    given = decode["arguments"]

    def read(text: str, names: list[str]) -> list[str]:
        words = set(re.findall(r"\w+", text))
        return [name for name in dict.fromkeys(names) if name in words]

    found: dict[str, Any] = {
        "hidden": hidden,
        "handed": [hidden, *(name for name in read(layers, made) if name != hidden)],
        "embed": read(" ".join(decode["before"]), given),
        "layers": read(layers, given),
        "logits": read(" ".join(decode["after"]), given),
    }
    for part in ("embed", "layers", "logits"):
        found[f"{part}_inputs"] = ", ".join(f"self.inputs[{name!r}]" for name in found[part])
    return found


def _layer_states(layer: Unit, mode: str) -> list[str]:
    body = layer.bodies[mode]
    return [v for v in body.inputs if body.lowered.states.get(v) == "layer"]


def _cache_shape(tensor: Tensor) -> str:
    return f"(pages, {', '.join(map(str, tensor.shape[1:]))})"


def _cache(value: str, layer_states: list[str]) -> str:
    return f"cache[{layer_states.index(value)}]"


def _dict(arguments: Mapping[str, str]) -> str:
    return f"{{{', '.join(f'{name!r}: {source}' for name, source in arguments.items())}}}"


def _layer_classes(names: list[str]) -> str:
    if len(set(names)) == 1:
        return f"[{names[0]}] * {len(names)}"
    return "[" + ", ".join(names) + "]"


_HOST = {  # the host tensor behind each run-time input: expressions over the arguments of prepare_*_inputs
    "decode": {
        "input_ids": "decode_tokens(tokens)",
        "position_ids": "decode_tokens(positions.clamp(min=0))",
        "page_table": "decode_rows(page_table, 0)",
        "current_pos": "decode_rows(positions, -1)",
        "cache_rows": "rows_of_pages(decode_rows(page_table, 0), {kv_heads})",
        "key_positions": "all_positions()",
    },
    "prefill": {
        "input_ids": "prefill_tokens(tokens, length)",
        "position_ids": "prefill_positions(start, length)",
        "page_table": "prefill_page_table(page_table, user, end, {pages})",
        "chunk_page_table": "pages_of_chunk(page_table, user, start, length, end, cached, {pages})",
        "chunk_start": "torch.tensor([start])",
        "cache_rows": "rows_of_pages(pages_of_groups(page_table, user, end, {pages}), {kv_heads})",
        "key_positions": "all_positions()",
        "chunk_positions": "prefill_positions(start, length).reshape(1, 1, -1, 1).float()",
        "last_tile_start": "last_tile(tokens)",
        "last_tile_end": "last_tile(tokens) + torch.tensor([1, 1, ttnn.TILE_SIZE, {width}])",
    },
}


def prepare(value: str, lowered: Lowered, prefix: str = "self.") -> str:
    """Expression that puts one input of a step on the mesh."""
    tensor = lowered.tensors[value]
    host = _HOST[lowered.mode]
    stem = value if value in host else re.sub(r"_\d+$", "", value)
    widths = (lowered.tensors[call.inputs[0]].width for call in lowered.calls if call.op.name == "last_tile")
    caches = (lowered.tensors[state] for state, scope in lowered.states.items() if scope == "layer")
    text = host[stem]
    if (
        stem == "position_ids"
        and lowered.mode == "prefill"
        and any(call.op.attrs.get("border") for call in lowered.calls)
    ):
        text = "prefill_rows(start, length, prompt_len)"
    text = text.replace(
        ", {pages}", f", {prefix}pages" if prefix else ""
    )  # without a model: as many as the package has
    if stem == "chunk_start" and tensor.axes_of(0):
        text = "chunk_starts(start, length)"
    text = text.replace("{width}", str(next(widths, 0))).replace("{kv_heads}", str(next(caches).shape[1]))
    return f"to_mesh({prefix}mesh_device, {text}, {tensor.mesh_dims}, ttnn.{tensor.dtype}, ttnn.{tensor.layout}_LAYOUT)"
