"""Configurations of well-known models, as published on the Hugging Face hub, so that compiling them needs no network.

Where transformers has no class for one, its `auto_map` names a class in a file of this folder.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

from fx2ttnn.shipped import shipped

_FOLDER = Path(__file__).parent


def names() -> list[str]:
    """The built-in model names, sorted."""
    return sorted(path.stem for path in shipped(_FOLDER, "*.json"))


def hub_ids() -> dict[str, str]:
    """The hub id of each built-in model."""
    return tomllib.loads(shipped(_FOLDER, "hub_ids.toml")[0].read_text())


def config_path(name: str) -> Path:
    """The config.json of a built-in model. Raises KeyError for a name that is not in `names()`."""
    if name not in names():
        raise KeyError(name)
    return _FOLDER / f"{name}.json"


def module_of(config: Path) -> str | None:
    """`file:Class` of the model of a built-in config.json, None where transformers has it; never of another's config.json."""
    if config.parent != _FOLDER:
        return None
    module, _, name = json.loads(config.read_text()).get("auto_map", {}).get("AutoModelForCausalLM", "").rpartition(".")
    return f"{_FOLDER / module}.py:{name}" if module else None
