"""The real vLLM with Tenstorrent's real plugin over a package, on the emulator; skipped where they are not installed."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import CONFIGS, random_model, write_config
from transformers import AutoConfig

from fx2ttnn import pipeline
from fx2ttnn.serve import write_bundle
from fx2ttnn.serve.server import NEEDED, server_environment

ENGINE = Path(__file__).parent / "serve_engine.py"
NARROW = {
    "hidden_size": 512,
    "intermediate_size": 1024,
    "num_attention_heads": 8,
    "num_hidden_layers": 2,
    "vocab_size": 2048,
}
MODELS = {"n150": CONFIGS["llama"], "galaxy": {**CONFIGS["qwen3_galaxy"], **NARROW}}
UNKNOWN = CONFIGS["nanochat"]  # to vLLM, which has no class of its own for it
missing = [name for module, name in NEEDED.items() if importlib.util.find_spec(module) is None]


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing), reason=f"{' and '.join(missing)} not installed: docs/serving.md"),
]


def served(target, many, tmp_path, config=None):
    """What tests/serve_engine.py found, by name."""
    model = write_config(tmp_path / "model", config or MODELS[target])
    random_model(AutoConfig.from_pretrained(model)).save_pretrained(model)
    compiled = pipeline.compile_model(pipeline.Options(str(model), target, precision="accuracy"))
    pipeline.write_package(compiled, tmp_path / "package")
    write_bundle(tmp_path / "package", tmp_path / "models")
    done = subprocess.run(
        [sys.executable, ENGINE, tmp_path / "package", model, str(many)],
        env=server_environment(tmp_path / "package", tmp_path / "models") | {"HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {row.pop("name"): row for row in rows}


def assert_hugging_faces(found, prompts):
    """Of every prompt each token is Hugging Face's best, or as good within rounding; most are the best."""
    rows = [row for name, row in found.items() if name not in ("calls", "seeds")]
    assert len(rows) == prompts and all(row["near"] for row in rows), found
    assert sum(row["best"] for row in rows) > 0.6 * sum(row["tokens"] for row in rows)


@pytest.mark.parametrize(("target", "many"), [("n150", 8), ("galaxy", 32)])
def test_greedy_tokens_are_hugging_faces(target, many, tmp_path):
    """Prompts of 3 to 200 tokens that join and leave, on the Galaxy in lanes; two begin with pages that the cache holds already.

    Steps go on with tokens that the mesh has drawn. A seed writes the same text alone and in company, drawn by the mesh and on the host.
    """
    found = served(target, many, tmp_path)
    assert_hugging_faces(found, many + 2)
    assert found["calls"]["resident"] > 0
    assert found["seeds"] == {"same": [True, True], "different": True}
    if target == "n150":  # on the Galaxy a lane has a cache of its own, and another one may be free
        assert (found["cached"]["cached"], found["a part cached"]["cached"]) == (128, 64)


def test_an_architecture_that_vllm_does_not_know(tmp_path):
    """It is asked for by the name under which the plugin has registered the bundle."""
    assert_hugging_faces(served("n150", 4, tmp_path, UNKNOWN), 6)


def test_a_preempted_request_ends_with_the_undisturbed_text(tmp_path):
    """Of two one has no page left for its next token: it is given to the model once more, as a prompt of all it has."""
    found = served("n150", 0, tmp_path)
    assert found["calls"]["prompts"] > 2
    assert_hugging_faces(found, 2)
