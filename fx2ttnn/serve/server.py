"""`fx2ttnn serve`: vLLM's own server over a package, on a card or on the emulator."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fx2ttnn.check.mock import mock_environment, without_hardware
from fx2ttnn.check.package import read_package
from fx2ttnn.errors import UserError
from fx2ttnn.run import check_tokenizer, checkpoint_folder, environment
from fx2ttnn.serve.bundle import how, options, write_bundle

NEEDED = {"vllm": "vLLM", "vllm_tt_plugin": "Tenstorrent's plugin for vLLM"}
INSTALL = "docs/serving.md says which versions go together and how they are installed"


def serve(package: Path, weights: Path, port: int, more: Sequence[str] = ()) -> int:
    """Serve `package`, under its folder's name, with the checkpoint `weights` until the server ends; its exit code.

    `more`: further options of `vllm serve`, which come behind ours. Raises UserError where something is missing.
    """
    found, source = how(package), checkpoint_folder(weights)
    for module, name in NEEDED.items():
        if importlib.util.find_spec(module) is None:
            raise UserError(f"{name} is not installed in {sys.prefix}: {INSTALL}")
    with tempfile.TemporaryDirectory(prefix="fx2ttnn_serve_") as scratch:
        folder = Path(scratch)
        write_bundle(package, folder / "models", link=True)
        model = _model_folder(package, source, folder / package.resolve().name)
        name = read_package(package).target.name
        where = f"on the emulator of {name}: slow, with true numbers" if on_emulator() else f"on {name}"
        print(f"serving {package} {where}, at http://localhost:{port}/v1", flush=True)
        command = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", str(model), "--port", str(port)]
        named = ["--served-model-name", package.resolve().name]
        return subprocess.run(
            [*command, *named, *options(found), *more], env=server_environment(package, folder / "models")
        ).returncode


def on_emulator() -> bool:
    """Whether a server runs on the emulator: where `FX2TTNN_BACKEND` says so, or there is no card."""
    return os.environ.get("FX2TTNN_BACKEND", "" if Path("/dev/tenstorrent").exists() else "emulator") == "emulator"


def server_environment(package: Path, models: Path) -> dict[str, str]:
    """Environment of a process in which vLLM serves `package`, whose bundle is in `models`."""
    given = {"VLLM_NO_USAGE_STATS": "1"} | environment()
    if on_emulator():
        target = read_package(package).target
        given = without_hardware(given) | mock_environment(target) | {"FX2TTNN_BACKEND": "emulator"}
    return given | how(package)["environment"] | {"EXTRA_MODELS_DIR": str(models)}


def _model_folder(package: Path, source: Path, folder: Path) -> Path:
    """A folder that vLLM takes: the checkpoint's own, `source`, or one with its files, the package's config.json and a tokenizer that it can read."""
    config = source / "config.json"
    if config.is_file() and json.loads(config.read_text()).get("architectures") and not list(source.glob("*.gguf")):
        return source
    check_tokenizer(source)
    folder.mkdir()
    for file in source.iterdir():
        if file.is_file():
            (folder / file.name).symlink_to(file.resolve())
    (folder / "config.json").unlink(missing_ok=True)
    shutil.copy(package / "config.json", folder / "config.json")
    if not any(folder.glob("tokenizer*")):
        from transformers import AutoTokenizer

        (gguf,) = folder.glob("*.gguf")
        AutoTokenizer.from_pretrained(folder, gguf_file=gguf.name).save_pretrained(folder)
    return folder
