"""The emitted suites themselves are run, on the emulator; and they notice when an emitted line is wrong."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from suites import assert_passes, compiled, run_suite
from tiny import CONFIGS, write_config

# Heads that divide a Galaxy's rows, so that there are collectives.
WIDE = {"hidden_size": 1024, "intermediate_size": 2048, "num_attention_heads": 16, "num_key_value_heads": 8}


@pytest.mark.slow
def test_one_chip(tmp_path: Path) -> None:
    """The whole suite, generation too, of a small model on an n150: no collectives, several kv heads on a chip, chunks of prompts.

    What serves is in test_serving.py.
    """
    config = write_config(tmp_path / "tiny_qwen3", CONFIGS["qwen3"])
    package = compiled(tmp_path, str(config), "n150", max_seq_len=256)
    assert_passes(run_suite(package, "tests/ops", "tests/modules", "tests/model"))
    command = [sys.executable, "-m", "pytest", "-q", package / "tests/modules/test_mlp.py"]
    assert subprocess.run(command, cwd="/", capture_output=True).returncode == 0  # from any folder


@pytest.mark.slow
def test_fewer_users_than_rows(tmp_path: Path) -> None:
    """Five users on a mesh that divides 32 rows over its columns: some chips have no user, one has fewer than the others."""
    config = write_config(tmp_path / "tiny_qwen3", {**CONFIGS["qwen3"], **WIDE})
    package = compiled(tmp_path, str(config), "t3k_2x4", batch=5, max_seq_len=128)
    assert_passes(run_suite(package, "tests/model/test_model.py", "tests/modules/test_attention.py"))


@pytest.mark.slow
def test_two_kinds_of_rotary_embeddings(tmp_path: Path) -> None:
    """Sequences beyond 64 tokens have other rotary embeddings from their first token on; some columns of a head rotate. One user."""
    factors = {"short_factor": [1 + n / 8 for n in range(24)], "long_factor": [3 + n / 2 for n in range(24)]}
    lengths = {"max_position_embeddings": 256, "original_max_position_embeddings": 64, "partial_rotary_factor": 0.75}
    fields = {**CONFIGS["phi3"], **lengths, "rope_scaling": {"type": "longrope", **factors}}
    package = compiled(tmp_path, str(write_config(tmp_path / "tiny_phi3", fields)), "n150", "accuracy", batch=1)
    assert_passes(run_suite(package, "tests/modules", "tests/model"))


@pytest.mark.slow
def test_a_line_of_chips(tmp_path: Path) -> None:
    """A layer of Llama-3.1-8B on a T3000, at its real width, with Llama's rope scaling."""
    package = compiled(tmp_path, "llama-3.1-8b", "t3k", max_seq_len=128)
    assert_passes(run_suite(package, "tests/modules/test_decoder.py"))


BREAKS = [
    ("attention.py", "cluster_axis=1", "cluster_axis=0"),
    ("attention.py", "scale=cfg.ATTENTION_SCALE", "scale=0.98"),
    (
        "attention.py",
        "update_idxs_tensor=current_pos, page_table=page_table",
        "update_idxs_tensor=current_pos + 1, page_table=page_table",
    ),
    ("attention.py", "paged_fill_cache(value_cache, value", "paged_fill_cache(value_cache, key"),
    ("mlp.py", "UnaryOpType.SILU", "UnaryOpType.RELU"),
    ("norm.py", "epsilon=cfg.NORM_EPS", "epsilon=1e-01"),
    ("decoder.py", "ttnn.add(hidden_states, down", "ttnn.add(down, down"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("file", "line", "broken"), BREAKS, ids=[b[2][-30:] for b in BREAKS])
def test_a_broken_line_fails(tmp_path: Path, package_to_break: Path, file: str, line: str, broken: str) -> None:
    """One wrong argument in one emitted line makes a test of the package fail."""
    package = tmp_path / "broken"
    shutil.copytree(package_to_break, package)
    text = (package / file).read_text()
    assert line in text
    (package / file).write_text(text.replace(line, broken))
    done = run_suite(package, f"tests/modules/test_{file}", options=("--exitfirst",))
    assert done.returncode == 1
    assert "failed" in done.stdout


@pytest.fixture(scope="module")
def package_to_break(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Qwen3 on two rows of four chips, between which it has collectives."""
    config = write_config(tmp_path_factory.mktemp("tiny") / "tiny_qwen3", {**CONFIGS["qwen3"], **WIDE})
    return compiled(tmp_path_factory.mktemp("whole"), str(config), "t3k_2x4", max_seq_len=128)
