"""Files of a package that read a checkpoint: weights.py and what it stands on."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from fx2ttnn import verbatim
from fx2ttnn.ir import Capture

OWN_MODULE = Path("modeling.py")  # a copy of the file that defines the model, where transformers does not
VERBATIM = Path(verbatim.__file__).parent


def weight_files(capture: Capture, render: Callable[..., str], resources: bool = False) -> dict[str, str]:
    """Name and text of the files: weights.py, its cache, the reader of checkpoints, and the tensors that one must have."""
    slopes = any(op.name == "add_slopes" for op in capture.graph.ops)
    files = {
        "weights.py": render("weights.py.j2", slopes=slopes, resources=resources),
        "weight_cache.py": render("weight_cache.py.j2"),
    }
    files["checkpoint.py"] = render("checkpoint.py.j2")
    model_class = capture.module.class_name if capture.module else None
    files["loading.py"] = render("loading.py.j2", part=capture.part_of is not None, model_class=model_class)
    files["quantized.py"] = (VERBATIM / "quantized.py").read_text()
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
    lines = [_line(pattern, shape, indices) for (pattern, shape), indices in layers.items()]
    return f'{{"tensors": [\n  {",\n  ".join(lines)}\n],\n"tied": {_tied(capture.tied)}}}\n'


def _line(pattern: str, shape: tuple[int, ...], indices: list[int]) -> str:
    entry: dict[str, object] = {"name": pattern, "shape": list(shape)}
    if indices:
        entry["layers"] = len(indices) if indices == list(range(len(indices))) else indices
    return json.dumps(entry)


def _tied(tied: Mapping[str, str]) -> str:
    return json.dumps(dict(sorted(tied.items())))
