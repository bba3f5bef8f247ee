"""Names of modules: the layer that they are part of, the module that holds several, and names in Python."""

from __future__ import annotations

import keyword
import re

_LAYER = re.compile(r"^(.*?\.\d+)(?:\.|$)")


def layer_of(module: str) -> str | None:
    """`model.layers.3.mlp.up_proj` -> `model.layers.3`; None outside the layers."""
    found = _LAYER.match(module)
    return found[1] if found else None


def lies_in(module: str, path: str) -> bool:
    """Whether a module is the one at `path`, or inside it; all are inside the model, whose path is empty."""
    return not path or f"{module}.".startswith(f"{path}.")


def common_module(modules: list[str]) -> str:
    """The deepest module that holds all of `modules`."""
    parts = [m.split(".") for m in modules]
    shared = []
    for names in zip(*parts, strict=False):
        if len(set(names)) > 1:
            break
        shared.append(names[0])
    return ".".join(shared)


def identifier(text: str) -> str:
    """A Python identifier made from a module's name."""
    cleaned = re.sub(r"\W", "_", text)
    return f"_{cleaned}" if not cleaned or cleaned[0].isdigit() or keyword.iskeyword(cleaned) else cleaned
