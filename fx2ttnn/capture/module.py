"""A user's own model: a file of theirs that defines a class in the style of transformers, named on the command line."""

from __future__ import annotations

import importlib.util
import inspect
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from fx2ttnn.errors import UserError
from fx2ttnn.ir import OwnModule


def load_module(reference: str) -> tuple[Any, OwnModule]:
    """The model class that `path/to/file.py:Class` names, and the file it came from. Runs the file.

    Raises UserError where the file or class is missing, cannot be imported or is no causal language model of transformers' style.
    """
    name, _, class_name = reference.rpartition(":")
    if not name or not class_name.isidentifier():
        raise UserError(f"module {reference!r} is not of the form path/to/file.py:ClassName")
    path = Path(name)
    if not path.is_file():
        raise UserError(f"module {reference}: there is no file {path}")
    found = getattr(_import(path.resolve(), path), class_name, None)
    if found is None:
        raise UserError(f"{path} defines no {class_name}")
    _check_class(found, f"{class_name} of {path}")
    return found, OwnModule(class_name, path.read_text())


def _import(path: Path, shown: Path) -> ModuleType:
    """The file as a module of its own name; classes look their module up in `sys.modules`."""
    name = str(path).replace(".", "_")
    spec: Any = importlib.util.spec_from_loader(name, importlib.machinery.SourceFileLoader(name, str(path)))
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # also a file that calls sys.exit
        del sys.modules[name]
        line = _line(error, path)
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        hint = "; the package carries a copy of this one file" if isinstance(error, ImportError) else ""
        raise UserError(f"{shown}{f', line {line}' if line else ''}: cannot be imported: {reason}{hint}") from error
    return module


def _line(error: BaseException, path: Path) -> int | None:
    """The line of `path` at which it failed: the innermost one."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return error.lineno
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return lines[-1] if lines else None


def _check_class(found: Any, what: str) -> None:
    from transformers import PreTrainedConfig, PreTrainedModel

    if not (inspect.isclass(found) and issubclass(found, PreTrainedModel)):
        raise UserError(f"{what} is no subclass of transformers.PreTrainedModel")
    config_class = getattr(found, "config_class", None)
    if not (inspect.isclass(config_class) and issubclass(config_class, PreTrainedConfig)):
        raise UserError(f"{what} has no config_class, a subclass of transformers.PreTrainedConfig")
    if not config_class.model_type:
        raise UserError(f"{what}: its config_class {config_class.__name__} has no model_type")
