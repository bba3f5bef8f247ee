"""The quickest look at the whole: under a minute. `make test` runs it first, by itself, and stops where it fails."""

import ast

import pytest
from tiny import folder_of

from fx2ttnn.emit import emit
from fx2ttnn.lower.rules import load_rules
from fx2ttnn.pipeline import Options, compile_model

pytestmark = pytest.mark.smoke


def test_the_tables_load():
    assert {"linear", "attention"} <= {rule.op for rule in load_rules()}


@pytest.mark.parametrize("target", ["n150", "t3k"])
@pytest.mark.parametrize("model", ["qwen3", "gemma3_text", "gpt_oss"])
def test_a_model_becomes_a_package(model, target, tmp_path):
    """Dense, with two kinds of attention, and a mixture of experts: every operation has its calls, and every file is Python."""
    compiled = compile_model(Options(str(folder_of(model)), target, max_seq_len=128))
    assert compiled.complete and compiled.coverage.percent == 100
    emit(compiled.program, tmp_path)
    files = list(tmp_path.rglob("*.py"))
    assert {"attention.py", "model.py", "test_attention.py"} <= {path.name for path in files}
    for path in files:
        ast.parse(path.read_text())
