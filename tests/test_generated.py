"""The checked-in example is what the compiler makes today, and ttnn accepts it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fx2ttnn import pipeline
from fx2ttnn.check import check

EXAMPLE = Path(__file__).parents[1] / "generated" / "qwen3_32b_galaxy"
CHECKED = Path("report/check.json")
LATER = {
    CHECKED,
    Path("report/index.html"),
    Path("report/tests.json"),
    Path("report/simulator.json"),
}  # written by check, report, the tests and simulate, not by compile


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a package by name, without what running it leaves behind."""
    files = (f for f in folder.rglob("*") if f.is_file() and "__pycache__" not in f.parts)
    return {str(f.relative_to(folder)): f.read_bytes() for f in files if f.relative_to(folder) not in LATER}


def test_compiling_again_gives_the_same_bytes(tmp_path: Path) -> None:
    out = tmp_path / "package"
    pipeline.write_package(pipeline.compile_model(pipeline.Options("qwen3-32b")), out)
    made, kept = contents(out), contents(EXAMPLE)
    assert made.keys() == kept.keys()
    assert [name for name in made if made[name] != kept[name]] == [], "run `make generated`"


@pytest.mark.slow
def test_checking_again_finds_the_same() -> None:
    """No refusal, DRAM below the target's 12 GB, and the numbers of the checked-in report."""
    result = check(EXAMPLE)
    assert result.ok
    found, kept = json.loads(json.dumps(result.to_json())), json.loads((EXAMPLE / CHECKED).read_text())
    assert found == kept, "run `make generated`"
