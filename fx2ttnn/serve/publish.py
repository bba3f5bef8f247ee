"""What other tools want of a bundle: the thin bundle of tt-model-manager (schema 6, a draft there) and an entry of tt-inference-server's catalogue."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fx2ttnn.targets import Target

VLLM = "0.25.1"
PLUGIN = "git+https://github.com/tenstorrent/vllm-tt-plugin"
OVERRIDES = "vllm-overrides.txt"
# What a package imports beside ttnn: vLLM must not be among them, as only its build without a device goes with the plugin.
IMPORTED = ("torch>=2.13", "transformers>=5.24", "numpy<2", "safetensors>=0.6", "gguf>=0.17")
DEVICES = {"galaxy_blackhole": "BLACKHOLE_GALAXY", "t3k_2x4": "T3K"}  # where tt-inference-server has another name
MODELS = "vllm_models"  # EXTRA_MODELS_DIR of a bundle that lies anywhere


def thin_bundle(
    bundle: Path, found: dict[str, Any], target: Target, metadata: str, run: str, weights: str | None
) -> None:
    """Write tt-model's files into `bundle`: manifest, requirements, and how it is installed and run. There are no wheels: install.sh fetches.

    `found` is the package's vllm.json; `run` is what serves the bundle from wherever it lies; `weights` is a hub id.
    """
    model = bundle / MODELS / bundle.name
    model.mkdir(parents=True)
    (model / "vllm_metadata.json").write_text(metadata)
    (bundle / "requirements.txt").write_text("\n".join([f"ttnn=={version('ttnn')}", *IMPORTED]) + "\n")
    (bundle / OVERRIDES).write_text("opencv-python-headless==4.11.0.86\nnumpy>=1.24.4,<2\n")
    manifest = manifest_of(bundle.name, found, target, json.loads(metadata)["main_class"], weights)
    (bundle / "tt_kernel_manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    for name, text in (("install.sh", INSTALL), ("run.sh", run)):
        (bundle / name).write_text(text)
        (bundle / name).chmod(0o755)


def manifest_of(
    name: str, found: dict[str, Any], target: Target, main_class: str, weights: str | None
) -> dict[str, Any]:
    """tt_kernel_manifest.json. What is none of its own fields goes to vLLM as it is (`extra_args`)."""
    options = dict(found["options"])
    own = {"max_model_len": "--max-model-len", "max_num_seqs": "--max-num-seqs", "block_size": "--block-size"}
    resources: dict[str, Any] = {key: options.pop(option) for key, option in own.items()}
    resources["trace_region_bytes"] = options["--additional-config"]["tt"]["trace_region_size"]
    resources["extra_args"] = [part for pair in options.items() for part in (pair[0], as_text(pair[1]))]
    rows, columns = target.mesh_shape
    mesh = {"devices": target.chips, "topology": f"{rows}x{columns}"}
    return {
        "schema_version": "6",
        "name": name,
        "tt_metal_version": version("ttnn"),
        "arch": target.arch,
        "device_count": target.chips,
        "producer": {"tt_kernel_version": "none", "created_at": datetime.now(UTC).isoformat(timespec="seconds")},
        **({"weights": {"repo": weights}} if weights else {}),
        "mesh": mesh | ({"fabric": target.fabric} if target.chips > 1 else {}),
        "entrypoint": {"class": main_class, "arch_name": found["arch"]},
        "resources": resources,
        "env": found["environment"],
        "deps": {
            "requirements": "requirements.txt",
            "vllm": {"version": VLLM, "target_device": "empty", "overrides": OVERRIDES},
            "model_dir": ".",
            "kind": "vllm",
        },
    }


def catalogue_entry(name: str, found: dict[str, Any], target: Target, weights: str | None) -> str:
    """The entry for tt-inference-server (workflows/model_specs/dev/llm.yaml), as JSON, which is YAML.

    Its `impl` is to be added there: code that comes by EXTRA_MODELS_DIR, a folder that is mounted into the container.
    """
    options = {key.removeprefix("--").replace("-", "_"): value for key, value in found["options"].items()}
    tt = options.pop("additional_config")["tt"]
    context, users = options["max_model_len"], options["max_num_seqs"] * options.get("data_parallel_size", 1)
    device = {
        "device": DEVICES.get(target.name, target.name.upper()),
        "max_concurrency": users,
        "max_context": context,
        "default_impl": True,
        "env_vars": {"EXTRA_MODELS_DIR": "/models", **found["environment"]},
        "vllm_args": {key: value if isinstance(value, int) else as_text(value) for key, value in options.items()},
        "override_tt_config": tt,
    }
    entry = {
        "weights": [weights or name],
        "impl": "fx2ttnn",
        "inference_engine": "VLLM",
        "device_model_specs": [device],
        "status": "EXPERIMENTAL",
        "has_builtin_warmup": True,
    }
    return json.dumps([entry], indent=1) + "\n"


def as_text(value: Any) -> str:
    """An option's value as a command line takes it."""
    return value if isinstance(value, str) else json.dumps(value)


INSTALL = f"""#!/bin/sh
# Makes .venv with all that run.sh needs, from the package index; the plugin from its repository, or from PLUGIN (a wheel, a clone). Wants uv.
set -e
cd "$(dirname "$0")"
uv venv --python 3.12 .venv
export VIRTUAL_ENV="$PWD/.venv"
uv pip install -r requirements.txt setuptools setuptools-scm setuptools-rust cmake ninja
common=https://raw.githubusercontent.com/vllm-project/vllm/v{VLLM}/requirements/common.txt
uv pip install --override {OVERRIDES} -r requirements.txt -r "$common"
VLLM_TARGET_DEVICE=empty uv pip install --no-deps --no-binary vllm --no-build-isolation vllm=={VLLM}
uv pip install --no-deps --no-build-isolation tblib "${{PLUGIN:-{PLUGIN}}}"
"""
