"""A package behind vLLM: its own serving tests, how it is to be started, the bundle and `fx2ttnn serve`, all without vLLM."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tiny
import yaml
from suites import assert_passes, compiled, run_suite
from test_cli import refused

from fx2ttnn.errors import UserError
from fx2ttnn.serve import write_bundle
from fx2ttnn.serve.server import _model_folder

# Long enough that on a Galaxy each of four groups of chips attends for its own users.
LANES = {
    **tiny.CONFIGS["qwen3"],
    **{"hidden_size": 1024, "intermediate_size": 1024, "num_attention_heads": 16, "num_key_value_heads": 8},
    "max_position_embeddings": 1024,
}
ON_LANES = ("prompts_at_once", "only_own_pages_are_written", "resident[True]", "sizes")


def module_of(package: Path, name: str) -> ModuleType:
    """A module of a package, imported as the package's own folder name says."""
    sys.path.insert(0, str(package.parent))
    try:
        return importlib.import_module(f"{package.name}.{name}")
    finally:
        sys.path.pop(0)


# -- the package's own tests -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_one_chip() -> None:
    assert_passes(run_suite(tiny.package("qwen3"), "tests/serving"))


@pytest.mark.slow
def test_lanes(tmp_path: Path) -> None:
    """Four lanes of a Galaxy, where page ids are those of a lane."""
    package = compiled(tmp_path, str(tiny.write_config(tmp_path / "tiny_lanes", LANES)), "galaxy")
    tests = (f"tests/serving/test_vllm_adapter.py::test_{name}" for name in ON_LANES)
    assert_passes(run_suite(package, *tests))


READINESS = """
import importlib.util, sys
from pathlib import Path
from fx2ttnn.emulate import emulated_mesh

package, path = Path(sys.argv[1]), list(sys.path)
spec = importlib.util.spec_from_file_location("_readiness_generator", package / "tt" / "generator.py")
shim = importlib.util.module_from_spec(spec)
spec.loader.exec_module(shim)
prompt = list(range(3, 10))
with emulated_mesh(target="n150") as device:
    built = shim.build_generator(model_dir=package, mesh_device=device, enable_trace=False, dtype="bfloat16")
    assert type(built.generator).__module__ == f"{package.name}.generator"
    assert sys.path == path
    found = built.generate(prompt_token_ids=prompt, max_new_tokens=3, stop_on_eos=False)
    assert found == built.generator.generate(prompt, 3, stop_tokens=())
    assert not built.generator.loop._traces
    built.teardown()
"""  # in a process of its own: ttnn serves one cluster in a process


@pytest.mark.slow
def test_readiness_check_builds_the_generator(tmp_path: Path) -> None:
    """tt/generator.py, imported by its path, over a checkpoint that the environment names: it writes what the package's generator writes."""
    weights = tmp_path / "weights"
    tiny.random_model(tiny.config_of("qwen3")).bfloat16().save_pretrained(weights)
    package = compiled(tmp_path, str(weights), "n150", max_seq_len=64)
    done = subprocess.run(
        [sys.executable, "-c", READINESS, package],
        env={**os.environ, "FX2TTNN_WEIGHTS": str(weights), "FX2TTNN_BACKEND": "emulator"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]


# -- how it is started -----------------------------------------------------------------------------------------------


def test_the_example_has_four_lanes_of_eight_users() -> None:
    options = json.loads((Path(__file__).parents[1] / "generated/qwen3_32b_galaxy/vllm.json").read_text())["options"]
    assert (options["--data-parallel-size"], options["--max-num-seqs"]) == (4, 8)


@pytest.mark.parametrize(("batch", "lanes", "users"), [(32, 8, 4), (20, 5, 4)])
def test_lanes_are_the_groups_of_chips_with_users(tmp_path: Path, batch: int, lanes: int, users: int) -> None:
    """Every lane has as many slots, and each slot is a user of the package."""
    fields = {**LANES, "max_position_embeddings": 8192}
    package = compiled(
        tmp_path, str(tiny.write_config(tmp_path / f"tiny_lanes_{batch}", fields)), "galaxy", batch=batch
    )
    found = json.loads((package / "vllm.json").read_text())["options"]
    assert found.get("--data-parallel-size", 1) == lanes
    assert found["--max-num-seqs"] == users
    adapter = module_of(package, "vllm_adapter")
    assert adapter.cfg.USER_GROUPS == 8
    size = {"max_model_len": found["--max-model-len"], "max_num_seqs": users, "tt_data_parallel": lanes}
    assert adapter.ServedModel.get_max_tokens_all_users(**size) == users * found["--max-model-len"]
    with pytest.raises(ValueError, match=f"--max-num-seqs {users}"):
        adapter.ServedModel.get_max_tokens_all_users(**{**size, "max_num_seqs": users + 1})
    slots = adapter.ServedModel(None, users)._users()
    assert len(set(slots.tolist())) == lanes * users and slots.max() < batch


def test_texts_end_where_other_positions_begin(tmp_path: Path) -> None:
    """vLLM does not read a text anew that grows beyond the length from where on all positions have other tables."""
    factors = {"short_factor": [1 + n / 8 for n in range(32)], "long_factor": [3 + n / 2 for n in range(32)]}
    fields = {**tiny.CONFIGS["phi3"], "original_max_position_embeddings": 64, "partial_rotary_factor": 1.0}
    config = tiny.write_config(tmp_path / "tiny_phi3", {**fields, "rope_scaling": {"type": "longrope", **factors}})
    package = compiled(tmp_path, str(config), "n150")
    assert json.loads((package / "vllm.json").read_text())["options"]["--max-model-len"] == 64
    assert module_of(package, "vllm_adapter").LONGEST == 64


# -- the bundle ------------------------------------------------------------------------------------------------------


def test_bundle(tmp_path: Path) -> None:
    """What the plugin looks for below EXTRA_MODELS_DIR: metadata, and the package under the name that they import it by."""
    bundle = write_bundle(tiny.package("qwen3"), tmp_path)
    assert bundle == tmp_path / "package"
    assert {"vllm_metadata.json", "package", "serve.sh"} <= {path.name for path in bundle.iterdir()}
    metadata = json.loads((bundle / "vllm_metadata.json").read_text())
    assert metadata == {"arch": "Qwen3ForCausalLM", "main_class": "package.vllm_adapter:ServedModel"}
    assert (bundle / "package" / "vllm_adapter.py").is_file()
    assert not (bundle / "package").is_symlink()
    assert write_bundle(tiny.package("qwen3"), tmp_path) == bundle  # again, in place of the first


def test_bundle_that_links(tmp_path: Path) -> None:
    """Written twice: the package that it links to stays."""
    package = tiny.package("qwen3")
    for _ in range(2):
        assert (write_bundle(package, tmp_path, link=True) / "package").resolve() == package
    assert (package / "model.py").is_file()


def started(script: Path, programs: Path) -> list[str]:
    """What a bundle's script gives `vllm`, which is put into the folder `programs`: its environment, then its arguments."""
    vllm = programs / "vllm"
    vllm.parent.mkdir(parents=True)
    vllm.write_text(
        '#!/bin/sh\necho "$EXTRA_MODELS_DIR|$PYTHONPATH|$MESH_DEVICE"\nfor part in "$@"; do echo "$part"; done\n'
    )
    vllm.chmod(0o755)
    environment = {"PATH": f"{vllm.parent}:/usr/bin:/bin"}
    said = subprocess.run([script, "a model", "--port", "1"], env=environment, capture_output=True, text=True, cwd="/")
    return said.stdout.splitlines()


def test_serve_sh(tmp_path: Path) -> None:
    """A shell takes it; `vllm` gets the model, what was asked for and the package's options, and finds the bundle."""
    bundle = write_bundle(tiny.package("qwen3"), tmp_path / "with a space")
    launch = bundle / "serve.sh"
    assert subprocess.run(["sh", "-n", launch]).returncode == 0
    first, *arguments = started(launch, tmp_path / "bin")
    assert first == f"{bundle.parent}||(1, 1)"
    assert arguments[:4] == ["serve", "a model", "--port", "1"]
    given = dict(zip(arguments[4::2], arguments[5::2], strict=True))
    assert given["--block-size"] == "64" and given["--max-num-seqs"] == "32"
    assert json.loads(given["--hf-overrides"]) == {"architectures": ["TTQwen3ForCausalLM"]}
    tt = {"trace_region_size": 128 << 20, "sample_on_device_mode": "all"}
    assert json.loads(given["--additional-config"]) == {"tt": tt}


def test_thin_bundle(tmp_path: Path) -> None:
    """What tt-model takes: a manifest of schema 6, requirements without vLLM, no wheel; it runs from wherever it lies."""
    bundle = write_bundle(tiny.package("qwen3"), tmp_path / "first", weights="owner/model")
    bundle = bundle.rename(tmp_path / "pulled")
    manifest = json.loads((bundle / "tt_kernel_manifest.json").read_text())
    assert (manifest["schema_version"], manifest["arch"], manifest["device_count"]) == ("6", "wormhole_b0", 1)
    assert manifest["weights"] == {"repo": "owner/model"}
    assert manifest["resources"]["block_size"] == 64 and manifest["resources"]["max_num_seqs"] == 32
    assert "--hf-overrides" in manifest["resources"]["extra_args"]
    requirements = (bundle / manifest["deps"]["requirements"]).read_text().splitlines()
    assert requirements[0].startswith("ttnn==") and not any(line.startswith("vllm") for line in requirements)
    assert (bundle / manifest["deps"]["vllm"]["overrides"]).is_file()
    assert not list(bundle.rglob("*.whl"))
    module, _, name = manifest["entrypoint"]["class"].partition(":")
    assert name == "ServedModel" and (bundle / f"{module.replace('.', '/')}.py").is_file()
    metadata = json.loads((bundle / "vllm_models" / "package" / "vllm_metadata.json").read_text())
    assert metadata == {"arch": manifest["entrypoint"]["arch_name"], "main_class": manifest["entrypoint"]["class"]}
    assert subprocess.run(["sh", "-n", bundle / "install.sh"]).returncode == 0
    first, *arguments = started(bundle / "run.sh", bundle / ".venv" / "bin")
    assert first == f"{bundle}/vllm_models|{bundle}|(1, 1)"
    assert arguments[:2] == ["serve", "a model"]


def test_entry_of_tt_inference_server(tmp_path: Path) -> None:
    """An element of its catalogue, for the machine and with the options of the package."""
    bundle = write_bundle(tiny.package("qwen3"), tmp_path, weights="owner/model")
    (entry,) = yaml.safe_load((bundle / "tt_inference_server.yaml").read_text())
    assert entry["weights"] == ["owner/model"] and entry["inference_engine"] == "VLLM"
    (device,) = entry["device_model_specs"]
    assert (device["device"], device["max_concurrency"]) == ("N150", 32)
    assert device["vllm_args"]["block_size"] == 64
    assert json.loads(device["vllm_args"]["hf_overrides"]) == {"architectures": ["TTQwen3ForCausalLM"]}
    assert device["override_tt_config"]["trace_region_size"] == 128 << 20


def test_a_foreign_folder_stays(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "mine").write_text("")
    with pytest.raises(UserError, match="exists and is no bundle"):
        write_bundle(tiny.package("qwen3"), tmp_path)
    assert (tmp_path / "package" / "mine").is_file()


def test_no_package(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no package of fx2ttnn that vLLM can serve"):
        write_bundle(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


# -- fx2ttnn serve ---------------------------------------------------------------------------------------------------


def test_serve_without_vllm(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name.startswith("vllm") else known(name))
    refused(run("serve", str(tiny.package("qwen3")), "--weights", str(tmp_path)), "vLLM is not installed", "serving.md")


def test_serve_without_weights(run: Any) -> None:
    refused(run("serve", str(tiny.package("qwen3")), "--weights", "nowhere"), "there is no checkpoint at nowhere")


def test_serve_without_package(run: Any, tmp_path: Path) -> None:
    refused(run("serve", str(tmp_path), "--weights", str(tmp_path)), "is no package of fx2ttnn that vLLM can serve")


def test_model_folder(tmp_path: Path) -> None:
    """vLLM gets the checkpoint's own folder where that says what it is, else one with the package's config.json beside its files."""
    package, given = tiny.package("qwen3"), tmp_path / "given"
    (tmp_path / "made").mkdir()
    given.mkdir()
    for name in ("model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (given / name).write_text("{}")
    found = _model_folder(package, given, tmp_path / "made" / "first")
    assert found == tmp_path / "made" / "first"
    assert (found / "config.json").read_text() == (package / "config.json").read_text()
    assert (found / "model.safetensors").resolve() == given / "model.safetensors"
    (given / "config.json").write_text(json.dumps({"architectures": ["Qwen3ForCausalLM"]}))
    assert _model_folder(package, given, tmp_path / "made" / "second") == given
    assert not (given / "config.json").is_symlink()
    (given / "tokenizer.json").unlink()
    (given / "tokenizer_config.json").unlink()
    (given / "config.json").unlink()
    with pytest.raises(UserError, match="no tokenizer in"):
        _model_folder(package, given, tmp_path / "made" / "third")
