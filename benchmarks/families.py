"""Every model type that transformers has a causal language model or an image-text model for, at a tiny size: what the compiler makes of it.

    .venv/bin/python benchmarks/families.py [TYPE ...]

Writes docs/families.md, unless only some types are asked for. Each type gets its configuration class's defaults, shrunk. A complete one must
compute what Hugging Face's module computes (`assert_equals_model` of the tests), ttnn accept its package on the mock, and the package read checkpoints of
the type bit for bit: as transformers saves them, and as they lie on the hub. No result may be a traceback: exit code 1 for either.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import tempfile
import traceback
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fx2ttnn import pipeline
from fx2ttnn.errors import UserError

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
SIZES: dict[str, Any] = {
    "hidden_size": 512,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "vocab_size": 512,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXPERTS: dict[str, Any] = {
    "num_experts": 8,
    "n_routed_experts": 8,
    "num_local_experts": 8,
    "n_shared_experts": 1,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 128,
    "shared_expert_intermediate_size": 128,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
}
# Latent attention, of every type that has it: sizes that a type has are set all together.
LATENT: dict[str, Any] = {
    "q_lora_rank": 96,
    "kv_lora_rank": 64,
    "qk_nope_head_dim": 64,
    "qk_rope_head_dim": 32,
    "v_head_dim": 64,
    "num_key_value_heads": 8,
}
MROPE_SECTION = [8, 12, 12]  # of half a head's dims, for the three axes of an image's positions
COMPLETE, UNSUPPORTED, REFUSED, OTHER, BUG = "complete", "unsupported", "refused", "no decoder-only model", "BUG"
BY_TTNN = "refused by ttnn"
NOT_OURS = ("an encoder", "multimodal", "does not give", "has no attention layer with a cache")
TITLES = {
    COMPLETE: "A package for n150 that ttnn's host code accepts on the mock; the recognised graph of decode equals Hugging Face's module",
    BY_TTNN: "A package that ttnn refuses",
    UNSUPPORTED: "No package: a report names the operations without a rule",
    REFUSED: "No capture: one message says why",
    OTHER: "Not a decoder-only language model with attention, which is all that we compile",
    BUG: "Bugs",
}


_CHECKPOINTS = """Checkpoints of a random model are read by the package and compared with the model's tensors, bit for bit: as this transformers saves them (its
own older names, where it has renamed or merged tensors, which is also how the hub has them), and as on the hub otherwise: without the base model's
prefix (or a multimodal model's language model in its older spelling), with a tensor of a head that the class does not have.

| type | checkpoint as saved | as on the hub |
|---|---|---|"""


@dataclass(frozen=True)
class Result:
    """What became of a model type, and why."""

    family: str
    kind: str
    why: str = ""
    checkpoints: tuple[str, str] = ("", "")  # what becomes of one as saved, and as on the hub


def main() -> int:
    """Try the types, print, write the document; 1 where one is a bug."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    )

    warnings.simplefilter("ignore")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    asked = sys.argv[1:]
    results = []
    for family in asked or sorted({*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, *MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES}):
        results.append(result_of(family))
        print(f"{family}: {results[-1].kind} {results[-1].why}", *results[-1].checkpoints, flush=True)
    if not asked:
        (ROOT / "docs" / "families.md").write_text(document(results))
    return int(any(result.kind == BUG or "differs" in "".join(result.checkpoints) for result in results))


def result_of(family: str) -> Result:
    """Compile the tiny model of this type; what is complete is compared with the model, and checked."""
    from recognised import assert_equals_model

    from fx2ttnn.capture import load_source
    from fx2ttnn.check import check

    with tempfile.TemporaryDirectory(prefix="fx2ttnn_families_") as parent:
        folder = Path(parent) / family.replace("-", "_")
        try:
            fields = tiny(family)
            folder.mkdir()
            (folder / "config.json").write_text(json.dumps(fields))
            compiled = pipeline.compile_model(pipeline.Options(str(folder), "n150", max_seq_len=128))
            if not compiled.complete:
                names = {row.op.removeprefix("aten.") for row in compiled.coverage.rows if row.problem}
                return Result(family, UNSUPPORTED, f"{compiled.coverage.percent:.0f} %: {', '.join(sorted(names))}")
            source = load_source(str(folder))
            assert_equals_model(source.config, source.model_class)
            package = Path(parent) / "package"
            pipeline.write_package(compiled, package)
            if findings := list(check(package).distinct_findings):
                where, message = findings[0].rule or findings[0].file, " ".join(findings[0].message.split())
                return Result(family, BY_TTNN, f"{where}: {message[:200]}")
            return Result(family, COMPLETE, checkpoints=checkpoints_of(fields, Path(parent) / "checkpoints"))
        except UserError as error:
            why = " ".join(str(error).replace(f"{folder}/", "").split())
            return Result(family, OTHER if any(word in why for word in NOT_OURS) else REFUSED, why)
        except Exception as error:
            traceback.print_exc()
            return Result(family, BUG, f"{type(error).__name__}: {error}")


def checkpoints_of(fields: dict[str, Any], folder: Path) -> tuple[str, str]:
    """What becomes of a checkpoint as transformers saves it, and of one as on the hub: with older names, no base prefix, and more than the model has."""
    import torch
    from checkpoints import differences, reader_of, save, saved
    from safetensors.torch import load_file

    reader, source = reader_of(fields, folder)
    model, tensors = saved(source, folder / "saved")
    stored = {
        name: tensor for file in (folder / "saved").glob("*.safetensors") for name, tensor in load_file(file).items()
    }
    held = save(tensors, folder / "held")
    base, more = model.base_model_prefix, {"mtp.layers.0.norm.weight": torch.ones(2)}
    if source.part_of:
        first = save(
            {n.replace(f"{base}.", f"{base}.language_model.", 1): t for n, t in stored.items()}, folder / "whole"
        )
        second = save({f"language_model.{n}": t for n, t in stored.items()} | more, folder / "hub")
        names = "language_model.model"
    else:
        first, names = folder / "saved", f"without {base}."
        second = save({n.removeprefix(f"{base}."): t for n, t in stored.items()} | more, folder / "hub")
    if set(stored) - set(tensors):
        names += f", {len(set(stored) - set(tensors))} names that are renamed or merged"
    found = [differences(reader, path, tensors) for path in (first, second, held)]
    said = [f"differs: {'; '.join(wrong[:2])}" if wrong else "equal" for wrong in found]
    return said[0] if said[2] == "equal" else f"as held: {said[2]}", f"{said[1]} ({names})"


def tiny(family: str) -> dict[str, Any]:
    """The fields of a small model of this type; of a multimodal one, of its language model. UserError if it has no defaults."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    from fx2ttnn.capture.text_part import is_causal, text_type

    if nested := text_type(family):
        return {"model_type": family, "text_config": tiny(nested)}
    try:
        default = CONFIG_MAPPING[family]()
    except Exception as error:
        raise UserError(f"its configuration class has no defaults: {' '.join(str(error).split())}") from error
    text = getattr(default, "text_config", None)
    if text is None or (is_causal(family) and _has(default, "hidden_size")):
        return shrunk(default)
    return {"model_type": family, "text_config": shrunk(text)}


def shrunk(default: Any) -> dict[str, Any]:
    """The fields of a small model: those that the configuration `default` has, under its own names."""
    fields: dict[str, Any] = {"model_type": default.model_type}
    sized = isinstance(getattr(default, "moe_intermediate_size", None), int)
    kinds = int | None if sized else int  # where experts have a size, a type may leave open how many they are
    for name, value in {**SIZES, **EXPERTS}.items():
        if _has(default, name) and (name in SIZES or isinstance(getattr(default, name), kinds)):
            fields[default.attribute_map.get(name, name)] = value
    if _has(default, "kv_lora_rank"):  # its heads are of two parts, of which one rotates
        fields |= LATENT
        fields.pop("head_dim", None)
    fields |= _fewer_layers(default)
    rope = getattr(default, "rope_parameters", None) or {"rope_type": "default", "rope_theta": 10000.0}
    axes = {"rope_parameters": rope | {"mrope_section": MROPE_SECTION}}
    return fields | axes if _rotates_by_axes(default) and _takes(default, fields | axes) else fields


def _rotates_by_axes(default: Any) -> bool:
    """Whether the model's code divides the dims of a head among the axes of an image's positions."""
    name = type(default).__module__.replace(".configuration_", ".modeling_")
    found = importlib.util.find_spec(name)  # a type may have a configuration of its own, and another type's model
    return found is not None and found.origin is not None and "mrope_section" in Path(found.origin).read_text()


def _takes(default: Any, fields: dict[str, Any]) -> bool:
    try:
        type(default).from_dict(fields)
    except Exception:
        return False
    return True


def _fewer_layers(default: Any) -> dict[str, Any]:
    """The number of layers, and the fields that have an entry for each, or patterns [[entries, times], ..] of such, cut to these layers."""
    layers, fewer = getattr(default, "num_hidden_layers", None), SIZES["num_hidden_layers"]
    kinds = getattr(default, "layer_types", None) or []
    fewer = max([fewer, *(kinds.index(kind) + 1 for kind in kinds)])
    found: dict[str, Any] = {default.attribute_map.get("num_hidden_layers", "num_hidden_layers"): fewer}
    if getattr(default, "layer_types", ()) is None:  # it must be given
        found["layer_types"] = ["full_attention"] * fewer
    for name, value in default.to_dict().items():
        if not isinstance(value, list) or not value:
            continue
        if len(value) == layers:
            found[name] = value[:fewer]
        elif all(isinstance(v, list) and len(v) == 2 and isinstance(v[0], list) for v in value):
            found[name] = [[[entry for entries, times in value for entry in entries * times][:fewer], 1]]
    return found


def _has(config: Any, name: str) -> bool:
    """Whether it can be set; some have fields that differ by layer, and properties."""
    if isinstance(getattr(type(config), name, None), property):
        return False
    try:
        return hasattr(config, name)
    except Exception:
        return True


def document(results: list[Result]) -> str:
    """docs/families.md."""
    text = [
        "# Model types of transformers",
        f"""
Written by `benchmarks/families.py`: all {len(results)} model types for which transformers {version("transformers")} has a causal language model, or a model that
writes text about images (then its language model), each with its class's defaults shrunk to as few layers as have one of each kind, at least two. That a type is complete here does not say that every configuration of it is.""",
    ]
    for kind, title in TITLES.items():
        found = [result for result in results if result.kind == kind]
        if found:
            text.append(f"\n## {title} ({len(found)})\n")
        if kind == COMPLETE:
            text += [_CHECKPOINTS, *(f"| {r.family} | {r.checkpoints[0]} | {r.checkpoints[1]} |" for r in found)]
        elif found and kind == OTHER:
            text.append(", ".join(result.family for result in found))
        elif found:
            text += [f"- **{result.family}**: {result.why}" for result in found]
    return "\n".join(text) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
