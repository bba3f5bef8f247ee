"""What a check must know of an emitted package before it runs it; nothing of the package is imported here."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fx2ttnn import targets
from fx2ttnn.errors import UserError
from fx2ttnn.targets import Target

_CONSTANTS = ("MODEL_NAME", "TARGET", "BATCH", "MAX_SEQ_LEN")
_ENTRY = {"path": str, "file": str, "class": str, "count": int, "methods": list}
_METHOD = {"name": str, "tokens": int, "inputs": list, "outputs": list}
_TENSOR = {
    "name": str,
    "shape": list,
    "dtype": str,
    "layout": str,
    "memory_config": str,
    "mesh_dims": list,
    "kind": str,
}


@dataclass(frozen=True)
class Package:
    """An emitted package. `modules` are the entries of report/modules.json, `provenance` those of its neighbour."""

    folder: Path
    model: str
    target: Target
    batch: int
    max_seq_len: int
    modules: Sequence[dict[str, Any]]
    provenance: Sequence[dict[str, Any]]


def read_package(folder: Path) -> Package:
    """The package in `folder`; raises UserError where it is none, or is for a machine that fx2ttnn does not know."""
    folder = folder.resolve()
    for name in ("model_config.py", "mesh.py", "weights.py", "model.py", "checkpoint.json", "report/modules.json"):
        if not (folder / name).is_file():
            raise UserError(f"{folder} is not a package emitted by fx2ttnn: it has no {name}")
    constants = _constants(folder / "model_config.py")
    modules = _json_list(folder / "report" / "modules.json")
    for number, entry in enumerate(modules):
        where = f"{folder}/report/modules.json, entry {number}"
        _check_fields(entry, _ENTRY, where)
        for method in entry["methods"]:
            _check_fields(method, _METHOD, where)
        for tensor in [t for m in entry["methods"] for t in (*m["inputs"], *m["outputs"])]:
            _check_fields(tensor, _TENSOR, where)
            if not re.fullmatch(r"(cfg|ttnn)\.\w+", tensor["memory_config"]):
                raise UserError(f"{where}: memory_config {tensor['memory_config']!r} is no name in cfg or ttnn")
    if not any(entry["path"] == "" for entry in modules):
        raise UserError(f"{folder}/report/modules.json: no entry with the path '' for the model itself")
    provenance = folder / "report" / "provenance.json"
    return Package(
        folder=folder,
        model=str(constants["MODEL_NAME"]),
        target=targets.load(str(constants["TARGET"])),
        batch=int(constants["BATCH"]),
        max_seq_len=int(constants["MAX_SEQ_LEN"]),
        modules=_by_method(modules),
        provenance=_json_list(provenance) if provenance.is_file() else [],
    )


def _by_method(modules: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One entry for each method of each class, and each length of a chunk: all decode steps first."""
    flat = [
        {
            **entry,
            "method": method["name"],
            "tokens": method["tokens"],
            "inputs": method["inputs"],
            "outputs": method["outputs"],
        }
        for entry in modules
        for method in entry["methods"]
    ]
    return sorted(flat, key=lambda entry: (entry["method"], entry["tokens"]))


def checkpoint_shapes(package: Package) -> dict[str, list[int]]:
    """Name and shape of every tensor that a checkpoint of the package's model has, from its checkpoint.json."""
    path, found = package.folder / "checkpoint.json", {}
    try:
        for entry in json.loads(path.read_text())["tensors"]:
            layers = entry.get("layers", 1)
            for layer in range(layers) if isinstance(layers, int) else layers:
                found[entry["name"].replace("{layer}", str(layer))] = list(entry["shape"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    return found


def _constants(path: Path) -> dict[str, Any]:
    """The constants of model_config.py that a check needs, read without running the file."""
    try:
        tree = ast.parse(path.read_text())
    except (SyntaxError, ValueError) as error:
        raise UserError(f"{path} is not valid Python: {error}") from error
    found = {}
    for node in tree.body:
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and isinstance(node.value, ast.Constant)
        ):
            found[node.targets[0].id] = node.value.value
    missing = [name for name in _CONSTANTS if name not in found]
    if missing:
        raise UserError(f"{path} is not the configuration of an emitted package: it does not define {missing[0]}")
    return found


def _json_list(path: Path) -> list[dict[str, Any]]:
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}") from error
    if not isinstance(data, list) or not all(isinstance(entry, dict) for entry in data):
        raise UserError(f"{path}: expected a list of objects")
    return data


def _check_fields(entry: Any, fields: Mapping[str, type], where: str) -> None:
    for name, kind in fields.items():
        if not isinstance(entry, dict) or not isinstance(entry.get(name), kind):
            raise UserError(f"{where}: expected the field {name!r} to be a {kind.__name__}")
