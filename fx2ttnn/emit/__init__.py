"""From the ttnn graph to the files of a package."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import jinja2
from safetensors.torch import save_file

from fx2ttnn.emit.checkpoint import OWN_MODULE, weight_files
from fx2ttnn.emit.classes import name_classes
from fx2ttnn.emit.code import Source, Writer, split_over
from fx2ttnn.emit.configs import Configs
from fx2ttnn.emit.manifest import manifest
from fx2ttnn.emit.model import model_context
from fx2ttnn.emit.module_tests import module_test_files
from fx2ttnn.emit.op_tests import op_test_files
from fx2ttnn.emit.paging import paging
from fx2ttnn.emit.position_tables import table_context
from fx2ttnn.emit.provenance import provenance
from fx2ttnn.emit.run_time import run_time_files
from fx2ttnn.emit.serving import trace_region_bytes
from fx2ttnn.emit.units import Unit, attribute_of, build
from fx2ttnn.lower import BLOCK_SIZE
from fx2ttnn.lower.host import on_host
from fx2ttnn.lower.program import Program
from fx2ttnn.names import layer_of
from fx2ttnn.plan import Plan
from fx2ttnn.precision import Precision
from fx2ttnn.shipped import shipped

TEMPLATES = Path(__file__).parent / "templates"
LINE_LENGTH = 120


def emit(program: Program, folder: Path) -> None:
    """Write the package into the empty `folder`; the same input gives the same bytes."""
    shipped(TEMPLATES, "*.j2")
    plan = program.plan
    root = build(program)
    name_classes(root, program)
    configs = Configs(program, root)
    writer = Writer(program, configs)
    tables = table_context(plan)
    files = _module_files(program, root, writer, tables)
    model = model_context(program, root, writer, layer_paths(plan))
    files["model.py"] = render("model.py.j2", **model)
    files |= run_time_files(program, root, configs, render, paging(program)["pages"], model["parts"])
    files |= op_test_files(program, configs, render)
    files |= module_test_files(program, root, writer, render)
    modules = manifest(program, root, writer, layer_paths(plan))
    files["model_config.py"] = _model_config(program, configs, tables)  # when all have asked for their configurations
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    if tables["held"]:
        save_file(tables["held"], folder / "position_tables.safetensors")
    config = {"architectures": [root.class_name], **plan.capture.config}
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    _format(folder)
    if module := plan.capture.module:  # as it stands: not our code to format
        (folder / OWN_MODULE).write_text(module.text)
    report = folder / "report"
    report.mkdir(exist_ok=True)
    (report / "modules.json").write_text(json.dumps(modules, indent=1) + "\n")
    (report / "provenance.json").write_text(json.dumps(provenance(folder, root), indent=1) + "\n")


def render(template: str, **context: Any) -> str:
    """A template filled in; strings that become code must go through the filter `pystr`."""
    return _environment().get_template(template).render(**context)


@cache
def _environment() -> jinja2.Environment:
    """One for all files, as it remembers the templates that it has read."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    environment.filters["pystr"] = repr
    return environment


def plain(text: str) -> str:
    """A string from a config as words inside a docstring: nothing that could end it."""
    return "".join(c if c.isalnum() or c in " ._-/" else "_" for c in text)


def _module_files(program: Program, root: Unit, writer: Writer, tables: dict[str, Any]) -> dict[str, str]:
    plan = program.plan
    capture = plan.capture
    sources = _sources(root, writer)
    by_file: dict[str, list[Source]] = {}
    for source in sources.values():
        by_file.setdefault(source.unit.file, []).append(source)
    files = {"__init__.py": f'"""{plain(capture.model_name)} on {plan.target.name}, emitted by fx2ttnn."""\n'}
    files["mesh.py"] = render(
        "mesh.py.j2",
        mesh_shape=plan.target.mesh_shape,
        l1_small_bytes=plan.target.l1_small_bytes,
        trace_region_bytes=trace_region_bytes(program),
        prefetching=plan.target.prefetching,
    )
    files["inputs.py"] = render("inputs.py.j2", border=tables["border"], token_groups=_token_groups(program))
    files["ccl.py"] = render(
        "ccl.py.j2",
        target=plan.target,
        links=plan.target.links,
        prefetching=plan.target.prefetching,
        topologies=[
            "ttnn.Topology.Ring" if plan.target.torus and n > 2 else "ttnn.Topology.Linear"
            for n in plan.target.mesh_shape
        ],
    )
    if program.has_resources:
        files["resources.py"] = render("resources.py.j2", prefetcher=plan.target.prefetching)
    if plan.target.prefetching:
        files["prefetcher.py"] = render("prefetcher.py.j2")
    if any(on_host(graph.calls) for graph in program.graphs):
        files["host.py"] = render("host.py.j2")
    files |= weight_files(capture, render, program.has_resources)
    files["position_tables.py"] = render("position_tables.py.j2", batch=capture.batch, **tables)
    for file, members in by_file.items():
        files[f"{file}.py"] = _unit_file(file, members, program)
    return files


def _model_config(program: Program, configs: Configs, tables: dict[str, Any]) -> str:
    plan, capture = program.plan, program.plan.capture
    return render(
        "model_config.py.j2",
        title=capture.model_name,
        title_doc=plain(capture.model_name),
        target=plan.target,
        batch=capture.batch,
        users=capture.users,
        max_seq_len=capture.max_seq_len,
        border=tables["border"],
        page_size=BLOCK_SIZE,
        pages_per_user=-(-capture.max_seq_len // BLOCK_SIZE),
        num_layers=len(layer_paths(plan)),
        vocab_size=lowered_vocab(plan),
        prefill_lengths=tuple(program.lengths),
        whole_prompts_only=program.whole_prompts_only,
        paging=paging(program),
        precision=plan.precision,
        pcc=_least_pcc(plan.precision),
        constants=configs.constants(),
        configs=configs.definitions(),
        prefetcher=plan.target.working_prefetcher,
    )


def _token_groups(program: Program) -> int:
    """Over how many groups of chips attention divides the tokens of a chunk: one where it does not."""
    starts = (lowered.tensors.get("chunk_start") for lowered in program.lengths.values())
    shape = program.plan.target.mesh_shape
    return max((prod(shape[axis] for axis in start.axes_of(0)) for start in starts if start), default=1)


def _least_pcc(precision: Precision) -> float:
    """What a module must reach beside the reference, whose weights are whole: an MLP with gates of three bits of mantissa has 0.985 to 0.99."""
    if precision.gates == "bfloat4_b":
        return 0.98
    return 0.999 if precision.name == "accuracy" else 0.99


def _sources(root: Unit, writer: Writer) -> dict[str, Source]:
    """One source for each distinct class, children before parents."""
    found: dict[str, Source] = {}
    for unit in root.tree():
        if unit.path and unit.class_name not in found:
            found[unit.class_name] = writer.source(unit)
    return found


def _unit_file(file: str, members: list[Source], program: Program) -> str:
    text = "\n".join(m.text for m in members)
    imports = sorted({c for m in members for c in m.child_files if c[0] != file})
    described = [_Described(m, _description(m, program.plan), _held(m, program)) for m in members]
    return render(
        "units.py.j2",
        docstring=f"{file.replace('_', ' ').capitalize()} of the model, one chip's share. Shapes in comments are those of one chip.",
        uses_ccl="ccl." in text,
        uses_host="host." in text,
        uses_cfg="cfg." in text,
        imports=imports,
        sources=described,
    )


class _Described:
    """A source with its docstring, for the template."""

    def __init__(self, source: Source, description: str, held: list[str]):
        self.description, self.held = description, held
        self.unit, self.inits, self.methods = source.unit, source.inits, source.methods
        self.prefetched = source.prefetched


def _description(source: Source, plan: Plan) -> str:
    if "sample" in source.unit.bodies:
        return "Chooses a token for every row of logits: the best one, or one of the best by chance."
    return f"{plain(re.sub(r'\.\d+(?=\.|$)', '.N', source.unit.path))}."


def _held(source: Source, program: Program) -> list[str]:
    """A line for each weight that the unit itself holds: one chip's shape, and how it is split."""
    parameters = program.parameters
    keys = [key for key in source.unit.parameters if parameters[key].sources]
    lines = []
    for key in keys:
        tensor = parameters[key].tensor
        last = len(tensor.shape) - 1
        split = split_over(
            tensor, {last - 1: "inputs", last: "outputs"} if parameters[key].transform == "linear" else {}
        )
        shape = [n for n in tensor.shape if n > 1] or [1]
        lines.append(", ".join([f"{attribute_of(key, source.unit, parameters)}: {shape} {tensor.dtype}", *split]))
    return lines


def layer_paths(plan: Plan) -> dict[str, str]:
    """Every layer's path, in order, and the path of the layer that is spelled out for it."""
    found: dict[str, str] = {}
    for op in plan.capture.graph.ops:
        if op.name == "layer":
            like = op.attrs["like"]
            found[f"{like.rsplit('.', 1)[0]}.{op.attrs['index']}"] = like
        elif layer := layer_of(op.module):
            found.setdefault(layer, layer)
    return dict(sorted(found.items(), key=lambda item: int(item[0].rsplit(".", 1)[1])))


def lowered_vocab(plan: Plan) -> int:
    """Width of the logits of the whole model."""
    return plan.graph.specs[plan.graph.outputs[0]].shape[-1]


def _format(folder: Path) -> None:
    """Sort imports and drop unused ones, then format: templates need not know which of them a model uses."""
    for command in (["check", "--fix-only", "--select", "F401,I"], ["format"]):
        options = ["--quiet", "--isolated", "--no-cache", "--line-length", str(LINE_LENGTH)]
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *options, str(folder)], capture_output=True, text=True
        )
        if "No space left on device" in done.stderr:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if done.returncode:
            raise RuntimeError(f"the emitted code is not valid Python; this is a bug in fx2ttnn:\n{done.stderr}")
