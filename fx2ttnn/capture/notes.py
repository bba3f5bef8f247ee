"""What a user should know of a model's files before the package is made: it compiles, but its checkpoint may not be one for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def notes_on(fields: Mapping[str, Any], file: Path) -> tuple[str, ...]:
    """A sentence for each thing to know. `file`: the config.json with these `fields`, beside which the checkpoint may lie."""
    found = []
    for name in fields.get("architectures") or []:
        if isinstance(name, str) and not name.endswith(("ForCausalLM", "ForConditionalGeneration", "LMHeadModel")):
            found.append(
                f"{file.name} is that of a {name}, which is no language model: the package predicts tokens, and needs a checkpoint with"
                " a language model's head (or one that shares the embedding's weight)"
            )
    if said := _quantisation(fields, file):
        found.append(said)
    return tuple(found)


def _quantisation(fields: Mapping[str, Any], file: Path) -> str | None:
    from fx2ttnn.verbatim.quantized import Unreadable, quantization_of, quantizer_of, settings_of

    settings = settings_of(fields) or (quantization_of(file.parent) if file.name == "config.json" else None)
    if settings is None:
        return None
    try:
        quantizer_of(settings)
    except Unreadable as error:
        return str(error)
    return f"the checkpoint is quantised ({settings['quant_method']}): it is dequantised while it is loaded"
