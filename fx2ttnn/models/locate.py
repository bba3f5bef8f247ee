"""Where the configuration of a model is. Loads no torch, so that a wrong name is told at once."""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from fx2ttnn import models
from fx2ttnn.errors import UserError

_HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+")
_CHECKPOINT = (".safetensors", ".bin", ".pt", ".pth")


@dataclass(frozen=True)
class Location:
    """A model's `name` for titles and its config.json or .gguf file; `built_in` is the hub id of a built-in configuration."""

    name: str
    path: Path
    built_in: str | None = None


def locate(reference: str) -> Location:
    """Find a built-in name, a folder with a config.json or a GGUF file, either file, or a hub id. Raises UserError.

    What exists under this name here goes before what is built in, and that before the hub.
    """
    path = Path(reference)
    if path.is_dir():
        path = _in_folder(path)
    if path.is_file():
        if path.suffix not in (".json", ".gguf"):
            kind = "a checkpoint" if path.suffix in _CHECKPOINT else "neither a config.json nor a .gguf file"
            raise UserError(
                f"{path} is {kind}: give the folder that holds the model's config.json, such as {path.parent}"
            )
        return Location(path.parent.resolve().name if path.name == "config.json" else path.stem, path)
    for name, hub_id in models.hub_ids().items():
        if reference.lower() in (name, hub_id.lower()):
            return Location(name, models.config_path(name), hub_id)
    if _HUB_ID.fullmatch(reference) and path.suffix not in (".json", ".gguf", *_CHECKPOINT):
        return Location(path.name, _download(reference))
    close = difflib.get_close_matches(path.name.lower(), models.names(), n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]}?" if close else ""
    raise UserError(
        f"no model, file or folder named {reference!r}.{hint} Known models: {', '.join(models.names())}; or give a folder"
        " with a config.json, a config.json, a .gguf file, or a hub id such as Qwen/Qwen3-32B."
    )


def _in_folder(folder: Path) -> Path:
    """The config.json of a folder, else its GGUF file."""
    if (folder / "config.json").is_file():
        return folder / "config.json"
    found = sorted(folder.glob("*.gguf"))
    if len(found) == 1:
        return found[0]
    if not found:
        found = sorted(path.parent for path in folder.glob("*/config.json"))
    if form := _other_form(folder):
        raise UserError(f"{folder} is {form}")
    listed = ", ".join(str(path) for path in found[:10]) + (", ..." if len(found) > 10 else "")
    raise UserError(f"folder {folder} holds no config.json" + (f": give one of {listed}" if found else ""))


def _other_form(folder: Path) -> str | None:
    """What a folder without a config.json is, where that is known, and how to go on."""
    adapter = folder / "adapter_config.json"
    if adapter.is_file():
        base = json.loads(adapter.read_text()).get("base_model_name_or_path")
        return f"an adapter (LoRA) of {base}: compile that, and merge the adapter into its checkpoint (peft: merge_and_unload, then save_pretrained)"
    if (folder / "params.json").is_file():
        return "a model in Meta's own form: take its repository in Hugging Face's, or convert it with transformers"
    return None


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
        name = hub_id.rpartition("/")[2].lower()
        namesake = f" The built-in {name} is {models.hub_ids()[name]}, not this." if name in models.hub_ids() else ""
        raise UserError(
            f"there is no folder {hub_id}; cannot get the config of {hub_id!r} from the Hugging Face hub ({reason})."
            f"{namesake} Give a local folder with its config.json, or one of the built-in models: {', '.join(models.names())}."
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
