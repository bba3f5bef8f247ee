"""Runs an emitted package's text demo in a process of its own: `python -m fx2ttnn.run PACKAGE [options of text_demo]`."""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from fx2ttnn.errors import UserError

NAME = "package_that_runs"  # the name under which it is imported, whatever its folder is called
TOKENIZER = ("tokenizer*", "vocab*", "*.model", "*.tiktoken", "*.gguf")  # one of them is there, whatever the model
QUIET = {"LOGURU_LEVEL": "WARNING", "TT_METAL_LOGGER_LEVEL": "FATAL", "TRANSFORMERS_VERBOSITY": "error"}


def run(package: Path, weights: Path, options: Sequence[str]) -> int:
    """The exit code of the demo, which says itself what is wrong; raises UserError where there is nothing to run."""
    if not (package / "text_demo.py").is_file() or not (package / "model_config.py").is_file():
        raise UserError(f"{package} is no package of fx2ttnn that can generate text: make one with `fx2ttnn compile`")
    check_tokenizer(checkpoint_folder(weights))
    command = [sys.executable, "-m", "fx2ttnn.run", str(package), "--weights", str(weights), *options]
    return subprocess.run(command, env=environment()).returncode


def checkpoint_folder(weights: Path) -> Path:
    """The folder of a checkpoint, which may be a file in it; UserError where there is none."""
    if not weights.exists():
        raise UserError(f"there is no checkpoint at {weights}")
    return weights if weights.is_dir() else weights.parent


def check_tokenizer(folder: Path) -> None:
    """UserError unless `folder` holds files of a tokenizer."""
    if not any(any(folder.glob(pattern)) for pattern in TOKENIZER):
        raise UserError(
            f"no tokenizer in {folder}: put the model's tokenizer.json (or tokenizer.model) and tokenizer_config.json there"
        )


def environment() -> dict[str, str]:
    """That of a process which runs a package: idle threads of torch must not spin, as the emulator has many small steps, and the machine may have other work."""
    return QUIET | {"OMP_WAIT_POLICY": "PASSIVE"} | os.environ


def main(arguments: Sequence[str]) -> int:
    """In the process of its own."""
    package, *options = arguments
    _import_package(Path(package))
    return importlib.import_module(f"{NAME}.text_demo").main(options, name="fx2ttnn run")


def _import_package(folder: Path) -> None:
    spec = importlib.util.spec_from_file_location(
        NAME, folder / "__init__.py", submodule_search_locations=[str(folder.resolve())]
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    spec.loader.exec_module(module)


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # the mesh is closed; ttnn's own clean-up would only print what it leaks
