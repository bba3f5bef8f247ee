"""From a model reference to a checked transformers configuration."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fx2ttnn import models
from fx2ttnn.capture.config_check import check_config, check_fields, spelling
from fx2ttnn.capture.notes import notes_on
from fx2ttnn.capture.text_class import text_class
from fx2ttnn.capture.text_part import is_causal, text_part
from fx2ttnn.errors import UserError
from fx2ttnn.ir import OwnModule
from fx2ttnn.models.locate import locate


@dataclass(frozen=True)
class ModelSource:
    """What a model is built from: its configuration, and its class where that is not transformers' own for the configuration.

    `fields` are those of its config.json as they stand in the file; what transformers makes of them holds more, but that
    changes with its version. `part_of` is the type of the multimodal model of which this is the language model. `notes`: see `notes_on`.
    `whole_layers`: how many layers the model has of which these are the first.
    """

    fields: dict[str, Any]
    config: Any
    model_class: Any = None
    module: OwnModule | None = None
    part_of: str | None = None
    notes: tuple[str, ...] = ()
    whole_layers: int | None = None


def load_config(reference: str, layers: int | None = None) -> Any:
    """The configuration of `load_source`."""
    return load_source(reference, layers).config


def load_source(reference: str, layers: int | None = None, module: str | None = None) -> ModelSource:
    """The model of a built-in name, a folder with a config.json or a GGUF file, either file, or a model of the hub.

    `layers` keeps the first so many layers only. `module` names a model class of the user's own, `path/to/file.py:Class`; other
    code that comes with a model is never run. Of a multimodal model the language model is taken. Raises UserError.
    """
    location = locate(reference)
    name, path = location.name, location.path
    fields = _read(path)
    notes = notes_on(fields, path)
    model_class = own = part_of = None
    if not module and (text := text_part(fields, str(path))):
        part_of, (fields, text_config) = fields["model_type"], text
        if not is_causal(fields["model_type"]):
            model_class, own = text_class(text_config, part_of, str(path))
    if module := module or models.module_of(path):
        from fx2ttnn.capture.module import load_module

        model_class, own = load_module(module)
        fields = {**fields, "model_type": model_class.config_class.model_type}
    config_class = check_fields(fields, str(path), getattr(model_class, "config_class", None))
    whole_layers = None
    if layers is not None:
        whole_layers, fields = _truncated(fields, config_class, layers, name)
    try:
        config = config_class.from_dict(copy.deepcopy(fields))
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path}: {config_class.__name__} refuses this {fields['model_type']} config: {reason}"
        ) from error
    check_config(config, fields, str(path))
    config.name_or_path = name
    return ModelSource(fields, config, model_class, own, part_of, notes, whole_layers)


def _read(path: Path) -> dict[str, Any]:
    if path.suffix == ".gguf":
        return _read_gguf(path)
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not valid JSON: line {error.lineno}, column {error.colno}: {error.msg}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    if not isinstance(fields, dict):
        raise UserError(f"{path} holds a JSON {type(fields).__name__}, not an object with the fields of a model config")
    return fields


def _read_gguf(path: Path) -> dict[str, Any]:
    """The config that transformers makes of a GGUF file's header."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    except Exception as error:
        raise UserError(f"transformers cannot read {path}: {' '.join(str(error).split())}") from error
    return {
        k: v
        for k, v in config.to_diff_dict().items()
        if not k.startswith("_") and k not in ("dtype", "transformers_version")
    }


def _truncated(fields: dict[str, Any], config_class: Any, layers: int, name: str) -> tuple[int, dict[str, Any]]:
    """How many layers there are, and the fields with fewer: their count, and every list that has one entry per layer."""
    key = spelling("num_hidden_layers", fields, config_class)
    count = fields[key]
    if not 1 <= layers <= count:
        raise UserError(f"layers is {layers}; {name} has {count}, so it must be between 1 and {count}")
    per_layer = {k: v[:layers] for k, v in fields.items() if isinstance(v, list) and len(v) == count}
    return count, {**fields, **per_layer, key: layers}
