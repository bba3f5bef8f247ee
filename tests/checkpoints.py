"""Checkpoints of tiny models in the forms in which people have them, and the emitted reader without the rest of its package."""

from __future__ import annotations

import importlib
import itertools
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tiny import random_model

from fx2ttnn.capture import capture_decode, load_source
from fx2ttnn.emit import render
from fx2ttnn.emit.checkpoint import OWN_MODULE, weight_files

_numbers = itertools.count()


def reader_of(fields: Mapping[str, Any], folder: Path, module: str | None = None) -> tuple[Any, Any]:
    """The emitted checkpoint.py of a config.json's model (or of a class of one's own, `module`), and what that is built from."""
    config_file = folder / "config.json"
    config_file.parent.mkdir(parents=True, exist_ok=True)
    config_file.write_text(json.dumps(fields))
    source = load_source(str(folder), module=module)
    capture = capture_decode(source.config, 32, 64, source.model_class)
    capture = replace(capture, config=source.fields, module=source.module, part_of=source.part_of)
    package = folder / f"reader{next(_numbers)}"  # Python keeps what was imported under a name
    package.mkdir()
    files = {"__init__.py": "", "model_config.py": 'MODEL_NAME = "tiny"\n', "config.json": json.dumps(source.fields)}
    if source.module:
        files[str(OWN_MODULE)] = source.module.text
    for name, text in {**weight_files(capture, render), **files}.items():
        (package / name).write_text(text)
    sys.path.insert(0, str(folder))
    try:
        return importlib.import_module(f"{package.name}.checkpoint"), source
    finally:
        sys.path.pop(0)


def save(state: Mapping[str, torch.Tensor], folder: Path, **fields: Any) -> Path:
    """A folder with these tensors, and `fields` in its config.json."""
    folder.mkdir(exist_ok=True)
    save_file({name: tensor.contiguous().clone() for name, tensor in state.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(fields))
    return folder


def differences(reader: Any, folder: Path, expected: Mapping[str, torch.Tensor]) -> list[str]:
    """What the reader says of a folder, and the tensors that it reads otherwise."""
    try:
        state = reader.open_checkpoint(folder)
        reader.check_tensors(state)
        return [n for n, tensor in expected.items() if not torch.equal(reader.read_tensor(state, n), tensor)]
    except reader.CheckpointError as error:
        return [str(error)]


def saved(source: Any, folder: Path) -> tuple[Any, dict[str, torch.Tensor]]:
    """A random model in bfloat16, as transformers saves it into `folder`, and its tensors by name."""
    model = random_model(source.config, source.model_class).bfloat16()
    model.save_pretrained(folder)
    return model, dict(model.state_dict())
