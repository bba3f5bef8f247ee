"""Random decoder configurations: each gives a package or a clean refusal, and packages hold. More of them: benchmarks/random_models.py."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

from random_models import _FAMILIES, TARGETS, draw, outcome_of

# Every target three times, twelve of the families; no two runs of the suite differ.
SAMPLE = [(seed, TARGETS[seed % 4], family) for seed, family in enumerate(sorted(_FAMILIES)[:12])]


@pytest.mark.parametrize(("seed", "target", "family"), SAMPLE)
def test_a_package_or_a_clean_refusal(seed, target, family, tmp_path):
    found = outcome_of(draw(seed, target, family), tmp_path)
    assert found.good, f"{found.draw}\n{found.draw.fields}\n{found.detail or found.message}"


@pytest.mark.slow
@pytest.mark.parametrize("seed", [7001, 7004], ids=["glm4 on t3k", "gpt_neox on n150"])
def test_ttnn_accepts_the_package_and_its_modules_equal_the_model(seed, tmp_path):
    found = outcome_of(draw(seed, small=True), tmp_path, check=True, emulate=True)
    assert found.kind == "complete", f"{found.draw}\n{found.draw.fields}\n{found.detail or found.message}"
