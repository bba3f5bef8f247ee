"""Where a model keeps its layers."""

from __future__ import annotations

import torch


def layer_lists(model: torch.nn.Module) -> list[tuple[str, torch.nn.ModuleList]]:
    """The outermost lists of more than one module: a list inside a layer (such as experts) is part of the layer."""
    found: list[tuple[str, torch.nn.ModuleList]] = []
    for path, module in model.named_modules():
        inside = any(path.startswith(f"{outer}.") for outer, _ in found)
        if isinstance(module, torch.nn.ModuleList) and len(module) > 1 and not inside:
            found.append((path, module))
    return found
