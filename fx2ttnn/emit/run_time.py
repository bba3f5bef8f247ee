"""Files of a package that generate text with the model: the decode loop, the generator, demos."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from fx2ttnn.emit.configs import Configs
from fx2ttnn.emit.serving import SERVED, how_to_serve
from fx2ttnn.emit.units import Unit
from fx2ttnn.errors import UserError
from fx2ttnn.lower.program import Program
from fx2ttnn.recognise.tables import border_of

PLAIN = ("backend.py", "pages.py", "tokenizer.py", "demo_decode.py", "text_demo.py", "vllm_sampling.py")


def run_time_files(
    program: Program,
    root: Unit,
    configs: Configs,
    render: Callable[..., str],
    pages: int,
    parts: Mapping[str, Any] | None,
) -> dict[str, str]:
    """Name and text of the files, and of their tests; `pages` are those of a group of users, `parts` those of a step: see model.py."""
    sampling = program.sampling
    if sampling is None:
        return {}
    decode = program.decode
    border = border_of(program.plan.capture.graph)
    stems = ("input_ids", "position_ids", "current_pos", "page_table", "cache_rows")
    names = {stem: _inputs(program, stem) for stem in stems}
    fixed_pages = bool(names["cache_rows"])  # attention reads the whole cache as rows, in a shape of so many
    drawn = sampling.tensors[sampling.outputs[0]]
    for name in names["input_ids"]:
        if decode.tensors[name].mesh_dims != drawn.mesh_dims:
            raise UserError(
                f"{program.plan.capture.model_name} on {program.plan.target.name}: the decode step takes token ids as"
                f" {decode.tensors[name].axes}, but sampling leaves them as {drawn.axes}; that is not supported"
            )
    common = {"host_operations": program.host_operations(), "target": program.plan.target}
    files = {name: render(f"{name}.j2", **common) for name in PLAIN}
    files["decode_loop.py"] = render(
        "decode_loop.py.j2",
        tokens=names["input_ids"],
        position_ids=names["position_ids"],
        current_pos=names["current_pos"],
        pages=names["page_table"] + names["cache_rows"],
        tokens_dims=drawn.mesh_dims,
        host_operations=program.host_operations(),
        settings_dims=sampling.tensors["k"].mesh_dims,
        logits_memory=configs.memory(decode, decode.outputs[0]),
        parts=parts,
    )
    files["vllm_adapter.py"] = render(
        "vllm_adapter.py.j2",
        name=SERVED,
        fixed_pages=fixed_pages,
        border=border,
        host_operations=program.host_operations(),
    )
    files["vllm.json"] = json.dumps(how_to_serve(program, root.class_name), indent=1) + "\n"
    files["generator.py"] = render(
        "generator.py.j2",
        class_name=root.class_name,
        border=border,
        whole_prompts_only=program.whole_prompts_only,
    )
    files["tests/serving/__init__.py"] = ""
    files["tests/serving/test_vllm_adapter.py"] = render(
        "vllm_test.py.j2", name=SERVED, host_operations=program.host_operations(), fixed_pages=fixed_pages
    )
    files["tt/generator.py"] = render("readiness.py.j2", border=border)
    files["tests/serving/test_readiness.py"] = render("readiness_test.py.j2")
    logits = sampling.tensors["logits"]
    files["tests/modules/test_sampling.py"] = render(
        "sampling_test.py.j2",
        logits_dims=logits.mesh_dims,
        fill=program.plan.fill(decode.outputs[0]),
        logits_memory=configs.memory(decode, decode.outputs[0]),
        tokens_dims=drawn.mesh_dims,
    )
    files["tests/model/test_generator.py"] = render(
        "generator_test.py.j2",
        border=border,
        own_attention=program.plan.capture.own_attention,
        pages=pages,
    )
    return files


def _inputs(program: Program, stem: str) -> list[str]:
    """Run-time inputs of the decode step that hold the same in several placements: `input_ids`, `input_ids_2`."""
    decode = program.decode
    given = (*decode.inputs, *(state for state, scope in decode.states.items() if scope == "model"))
    return [str(value) for value in given if value == stem or value.removeprefix(f"{stem}_").isdigit()]
