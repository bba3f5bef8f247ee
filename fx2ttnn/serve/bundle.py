"""The folder that vllm-tt-plugin finds under EXTRA_MODELS_DIR: metadata, the package, and a file that starts the server."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path
from typing import Any

from fx2ttnn.check.package import read_package
from fx2ttnn.errors import UserError
from fx2ttnn.names import identifier
from fx2ttnn.serve.publish import MODELS, as_text, catalogue_entry, thin_bundle

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


def write_bundle(package: Path, folder: Path, link: bool = False, weights: str | None = None) -> Path:
    """The bundle of `package` in `folder`, which is an EXTRA_MODELS_DIR; with `link` the package itself is only linked to.

    One that holds the package is also what tt-model and tt-inference-server take; `weights` is the hub id that these fetch.

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
    metadata = json.dumps({"arch": found["arch"], "main_class": f"{name}.{found['class']}"}, indent=1) + "\n"
    (bundle / METADATA).write_text(metadata)
    if not link:
        target = read_package(package).target
        run = _launch(found, f"$here/{MODELS}", PYTHONPATH="$here", PATH="$here/.venv/bin:$PATH")
        thin_bundle(bundle, found, target, metadata, run, weights)
        (bundle / "tt_inference_server.yaml").write_text(catalogue_entry(name, found, target, weights))
    launch = bundle / "serve.sh"
    launch.write_text(_launch(found, "${here%/*}"))
    launch.chmod(0o755)
    return bundle


def options(found: dict[str, Any]) -> list[str]:
    """Options of `vllm serve`, as its command line takes them."""
    return [part for name, value in found["options"].items() for part in (name, as_text(value))]


def _launch(found: dict[str, Any], models: str, **environment: str) -> str:
    """A shell script that serves what is in the folder `models`; `environment` is in the shell's own words."""
    exports = [f"export {name}={shlex.quote(value)}" for name, value in found["environment"].items()]
    exports += [f'export {name}="{value}"' for name, value in {"EXTRA_MODELS_DIR": models, **environment}.items()]
    return f"""#!/bin/sh
# Serves the model of this bundle: FILE MODEL [more options of vllm serve]
# MODEL: a folder with config.json, tokenizer and weights, or a hub id. FX2TTNN_WEIGHT_CACHE=DIR keeps the weights as the chips take them.
here=$(cd "$(dirname "$0")" && pwd)
{chr(10).join(exports)}
exec vllm serve "$@" {shlex.join(options(found))}
"""
