"""Configurations of well-known models, as published on the Hugging Face hub, so that compiling them needs no network."""

from __future__ import annotations

from pathlib import Path

_FOLDER = Path(__file__).parent


def names() -> list[str]:
    """The built-in model names, sorted."""
    return sorted(path.stem for path in _FOLDER.glob("*.json"))


def config_path(name: str) -> Path:
    """The config.json of a built-in model. Raises KeyError for a name that is not in `names()`."""
    if name not in names():
        raise KeyError(name)
    return _FOLDER / f"{name}.json"
