"""The folder that vllm-tt-plugin finds under EXTRA_MODELS_DIR: metadata, the package, and a file that starts the server."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

from fx2ttnn.errors import UserError
from fx2ttnn.names import identifier

METADATA = "vllm_metadata.json"


def how(package: Path) -> dict[str, Any]:
    """vllm.json of a package; UserError where it has none."""
    try:
        return json.loads((package / "vllm.json").read_text())
    except (OSError, ValueError):
        raise UserError(
            f"{package} is no package of fx2ttnn that vLLM can serve: make one with `fx2ttnn compile`"
        ) from None


def module_name(package: Path) -> str:
    """The name under which the package is imported in the server's process."""
    return identifier(package.resolve().name)


def write_bundle(package: Path, folder: Path, link: bool = False) -> Path:
    """The bundle of `package` in `folder`, which is an EXTRA_MODELS_DIR; with `link` the package itself is only linked to.

    Raises UserError where something else stands in its place.
    """
    found, name = how(package), module_name(package)
    bundle = folder / name
    if bundle.exists() and not (bundle / METADATA).is_file():
        raise UserError(f"{bundle} exists and is no bundle: choose another folder for --serve")
    shutil.rmtree(bundle, ignore_errors=True)
    bundle.mkdir(parents=True)
    if link:
        (bundle / name).symlink_to(package.resolve(), target_is_directory=True)
    else:
        shutil.copytree(package, bundle / name, ignore=shutil.ignore_patterns("__pycache__", "report"))
    metadata = {"arch": found["arch"], "main_class": f"{name}.{found['class']}"}
    (bundle / METADATA).write_text(json.dumps(metadata, indent=1) + "\n")
    launch = bundle / "serve.sh"
    launch.write_text(_launch(found))
    launch.chmod(0o755)
    return bundle


def options(found: dict[str, Any]) -> list[str]:
    """Options of `vllm serve`, as its command line takes them."""
    texts = ((name, value if isinstance(value, str) else json.dumps(value)) for name, value in found["options"].items())
    return [part for pair in texts for part in pair]


def _launch(found: dict[str, Any]) -> str:
    exports = "\n".join(f"export {name}={shlex.quote(value)}" for name, value in found["environment"].items())
    return f"""#!/bin/sh
# Serves the model of this bundle: ./serve.sh MODEL [more options of vllm serve]
# MODEL: a folder with config.json, tokenizer and weights, or a hub id. FX2TTNN_WEIGHT_CACHE=DIR keeps the weights as the chips take them.
here=$(cd "$(dirname "$0")" && pwd)
export EXTRA_MODELS_DIR="${{here%/*}}"
{exports}
exec vllm serve "$@" {shlex.join(options(found))}
"""
