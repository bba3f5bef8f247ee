"""Files of a package that read a checkpoint: weights.py and what it stands on."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping

from fx2ttnn.ir import Capture


def weight_files(capture: Capture, render: Callable[..., str]) -> dict[str, str]:
    """Name and text of the files: weights.py, its cache, the reader of checkpoints, and the tensors that one must have."""
    slopes = any(op.name == "add_slopes" for op in capture.graph.ops)
    files = {"weights.py": render("weights.py.j2", slopes=slopes), "weight_cache.py": render("weight_cache.py.j2")}
    apart = any(stored_apart(capture).values())
    files["checkpoint.py"] = render("checkpoint.py.j2", apart=apart, part=capture.part_of is not None)
    return files | {"checkpoint.json": expected_tensors(capture)}


def expected_tensors(capture: Capture) -> str:
    """JSON: every tensor of the model by name and shape, those of equal layers once, and which are tied to which.

    `layers` is the number of layers that have the tensor where these are the first ones, else their indices.
    """
    layers: dict[tuple[str, tuple[int, ...]], list[int]] = {}
    for name, spec in capture.parameter_specs.items():
        found = re.search(r"(?<=\.)\d+(?=\.)", name)  # the first number in a name is that of the layer
        pattern = f"{name[: found.start()]}{{layer}}{name[found.end() :]}" if found else name
        layers.setdefault((pattern, spec.shape), []).extend([int(found[0])] if found else [])
    apart = stored_apart(capture)
    lines = [_line(pattern, shape, indices, apart.get(pattern, [])) for (pattern, shape), indices in layers.items()]
    return f'{{"tensors": [\n  {",\n  ".join(lines)}\n],\n"tied": {_tied(capture.tied)}}}\n'


def stored_apart(capture: Capture) -> dict[str, list[str]]:
    """The names under which checkpoints hold a tensor that transformers makes when it loads them, where they differ.

    By the tensor's name, with {layer} for its layer; {expert} stands for each index along dim 0. Several lie side by side along dim 1.
    """
    from transformers.conversion_mapping import get_checkpoint_conversion_mapping

    steps = get_checkpoint_conversion_mapping(str(getattr(capture, "config", {}).get("model_type"))) or []
    renamed = [s for s in steps if type(s).__name__ == "WeightRenaming"]
    merged = [s for s in steps if [type(o).__name__ for o in getattr(s, "operations", ())][:1] == ["MergeModulelist"]]
    found: dict[str, list[str]] = {}
    for name in dict.fromkeys(re.sub(r"(?<=\.)\d+(?=\.)", "{layer}", n, count=1) for n in capture.parameter_specs):
        sources = [name]
        for step in merged:
            if name.endswith(step.target_patterns[0]):
                stem = name.removesuffix(step.target_patterns[0])
                sources = [stem + source.replace("*", "{expert}") for source in step.source_patterns]
        for step in renamed:
            pair = step.target_patterns[0], step.source_patterns[0]
            sources = [source.replace(*pair) for source in sources]
        if sources != [name]:
            found[name] = sources
    return found


def _line(pattern: str, shape: tuple[int, ...], indices: list[int], apart: list[str]) -> str:
    entry: dict[str, object] = {"name": pattern, "shape": list(shape)}
    if indices:
        entry["layers"] = len(indices) if indices == list(range(len(indices))) else indices
    return json.dumps(entry | ({"apart": apart} if apart else {}))


def _tied(tied: Mapping[str, str]) -> str:
    return json.dumps(dict(sorted(tied.items())))
