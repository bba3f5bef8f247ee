"""From a model reference to a checked transformers configuration."""

from __future__ import annotations

import copy
import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fx2ttnn import models
from fx2ttnn.capture.config_check import check_config, check_fields
from fx2ttnn.capture.text_part import text_part
from fx2ttnn.errors import UserError
from fx2ttnn.ir import OwnModule


@dataclass(frozen=True)
class ModelSource:
    """What a model is built from: its configuration, and its class where that is not transformers' own for the configuration.

    `fields` are those of its config.json as they stand in the file; what transformers makes of them holds more, but that
    changes with its version. `part_of` is the type of the multimodal model of which this is the language model.
    """

    fields: dict[str, Any]
    config: Any
    model_class: Any = None
    module: OwnModule | None = None
    part_of: str | None = None


def load_config(reference: str, layers: int | None = None) -> Any:
    """The configuration of `load_source`."""
    return load_source(reference, layers).config


def load_source(reference: str, layers: int | None = None, module: str | None = None) -> ModelSource:
    """The model of a built-in name, a folder with a config.json or a GGUF file, either file, or a model of the hub.

    `layers` keeps the first so many layers only. `module` names a model class of the user's own, `path/to/file.py:Class`; other
    code that comes with a model is never run. Of a multimodal model the language model is taken. Raises UserError.
    """
    name, path = _locate(reference)
    fields = _read(path)
    model_class = own = part_of = None
    if not module and (text := text_part(fields, str(path))):
        fields, part_of = text, fields["model_type"]
    if module := module or models.module_of(path):
        from fx2ttnn.capture.module import load_module

        model_class, own = load_module(module)
        fields = {**fields, "model_type": model_class.config_class.model_type}
    config_class = check_fields(fields, str(path), getattr(model_class, "config_class", None))
    if layers is not None:
        fields = _truncated(fields, config_class, layers, name)
    try:
        config = config_class.from_dict(copy.deepcopy(fields))
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path}: {config_class.__name__} refuses this {fields['model_type']} config: {reason}"
        ) from error
    check_config(config, fields, str(path))
    config.name_or_path = name
    return ModelSource(fields, config, model_class, own, part_of)


def _locate(reference: str) -> tuple[str, Path]:
    """Display name and config.json of a reference."""
    path = Path(reference)
    if path.is_dir():
        if (path / "config.json").is_file():
            return path.resolve().name, path / "config.json"
        found = sorted(path.glob("*.gguf"))
        if len(found) != 1:
            raise UserError(f"folder {path} holds no config.json" + (", and more than one .gguf file" if found else ""))
        path = found[0]
    if path.is_file():
        return (path.resolve().parent.name if path.name == "config.json" else path.stem), path
    built_in = reference.rpartition("/")[2].lower()
    if built_in in models.names() and reference.count("/") <= 1:
        return built_in, models.config_path(built_in)
    if reference.count("/") == 1 and path.suffix != ".json" and not reference.startswith((".", "/", "~")):
        return reference.rpartition("/")[2], _download(reference)
    close = difflib.get_close_matches(built_in, models.names(), n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]}?" if close else ""
    raise UserError(
        f"no model, file or folder named {reference!r}.{hint} Known models: {', '.join(models.names())}; or give a folder"
        " with a config.json, a config.json, or a hub id such as Qwen/Qwen3-32B."
    )


def _download(hub_id: str) -> Path:
    """The config.json of a model of the hub, from the local cache or the network."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    cached = try_to_load_from_cache(hub_id, "config.json")
    if isinstance(cached, str):
        return Path(cached)
    try:
        _probe_hub()
        return Path(hf_hub_download(hub_id, "config.json"))
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise UserError(
            f"cannot get the config of {hub_id!r} from the Hugging Face hub ({reason}). Give a local folder with its"
            f" config.json, or one of the built-in models: {', '.join(models.names())}."
        ) from error


def _probe_hub() -> None:
    """Raises OSError if the hub cannot be reached; asking first spares the user its minute of retries."""
    import socket
    from urllib.parse import urlsplit
    from urllib.request import getproxies

    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise OSError("HF_HUB_OFFLINE is set")
    url = urlsplit(constants.ENDPOINT)
    if not getproxies():  # through a proxy the name need not resolve here
        socket.create_connection((str(url.hostname), url.port or 443), timeout=5).close()


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


def _truncated(fields: dict[str, Any], config_class: Any, layers: int, name: str) -> dict[str, Any]:
    """The fields with fewer layers: their count, and every list that has one entry per layer."""
    key = "num_hidden_layers"
    if key not in fields:
        key = config_class.attribute_map[key]
    count = fields[key]
    if not 1 <= layers <= count:
        raise UserError(f"layers is {layers}; {name} has {count}, so it must be between 1 and {count}")
    per_layer = {k: v[:layers] for k, v in fields.items() if isinstance(v, list) and len(v) == count}
    return {**fields, **per_layer, key: layers}
