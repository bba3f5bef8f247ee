"""The emitted suite of Qwen3-32B at its real width, on all 32 chips of an emulated Galaxy."""

from __future__ import annotations

from pathlib import Path

import pytest
from suites import assert_passes, compiled, run_suite

LOGITS = [f"tests/model/test_model.py::test_{name}" for name in ("decode", "prefill")]


@pytest.mark.slow
def test_qwen3_32b_on_galaxy(tmp_path: Path) -> None:
    """Bfloat8_b weights and cache: logits of two layers against Hugging Face, three steps, another position for every user, and prompts, PCC 0.99; drawing tokens."""
    package = compiled(tmp_path, "qwen3-32b", "galaxy", max_seq_len=128)
    assert_passes(run_suite(package, "tests/modules/test_sampling.py", *LOGITS))


@pytest.mark.slow
def test_qwen3_32b_on_galaxy_in_bfloat16(tmp_path: Path) -> None:
    """Attention of prompts and the MLP with PCC 0.999; a whole model in bfloat16 is that of test_mutations.py, on eight chips."""
    package = compiled(tmp_path, "qwen3-32b", "galaxy", "accuracy", max_seq_len=128)
    assert_passes(
        run_suite(package, "tests/modules/test_attention.py::test_qwen3_attention_prefill", "tests/modules/test_mlp.py")
    )
