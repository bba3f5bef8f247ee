"""docs/adding_an_op.md does what it says: its pattern, its row and its reference make a model compile, be accepted and compute."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import CONFIGS, write_config

from fx2ttnn import pipeline
from fx2ttnn.check import check
from fx2ttnn.lower import rules
from fx2ttnn.recognise import patterns

DOCUMENT = (Path(__file__).parents[1] / "docs" / "adding_an_op.md").read_text()


def block(language: str, number: int = 0) -> str:
    """A fenced block of the document."""
    return re.findall(rf"```{language}\n(.*?)```", DOCUMENT, re.S)[number]


MLP = """
import torch, ttnn
from mish_package import backend, mesh, mlp, weights

shapes = {"gate": (512, 256), "up": (512, 256), "down": (256, 512)}
state = {f"model.layers.0.mlp.{name}_proj.weight": torch.randn(*shape) / 16 for name, shape in shapes.items()}
gate, up, down = state.values()
hidden = torch.randn(1, 1, 64, 256)
with backend.open_backend() as (device, _):
    module = mlp.LlamaMLP(device, weights.Weights(device, state).at("model.layers.0.mlp"))
    placed = mesh.to_mesh(device, hidden, (None, None), ttnn.bfloat16)
    found = mesh.from_mesh(device, module.prefill_forward(placed), (None, None)).float()
expected = (torch.nn.functional.mish(hidden @ gate.T) * (hidden @ up.T)) @ down.T
assert torch.corrcoef(torch.stack([found.flatten(), expected.flatten()]))[0, 1] > 0.99
"""  # in a process of its own: ttnn serves one cluster in a process


@pytest.fixture
def model(tmp_path):
    config = {**CONFIGS["llama"], "hidden_act": "mish", "num_hidden_layers": 1}
    return pipeline.Options(str(write_config(tmp_path / "mish", config)), "n150", max_seq_len=64)


def test_without_it_the_model_is_refused(model):
    compiled = pipeline.compile_model(model)
    assert {row.op for row in compiled.coverage.rows if row.problem} == {"aten.mish.default"} or not compiled.complete


@pytest.mark.parametrize(("number", "table"), [(1, "collectives.toml"), (2, "norm.toml")])
def test_the_rows_with_resources_are_of_the_tables(number, table):
    """Whose packages other tests run."""
    assert block("toml", number) in (rules.RULES_DIR / table).read_text()


@pytest.mark.slow
def test_with_it_the_model_compiles_is_accepted_and_computes(model, tmp_path, monkeypatch):
    """The MLP of the package, on the emulator, against torch."""
    tables = tmp_path / "lowering_rules"
    shutil.copytree(rules.RULES_DIR, tables)
    (tables / "mish.toml").write_text(block("toml"))
    monkeypatch.setattr(rules.load_rules, "__defaults__", (tables,))
    row = eval(block("python"), vars(patterns))
    place = next(i for i, p in enumerate(patterns.PATTERNS) if p.name == "glu")
    monkeypatch.setattr(
        "fx2ttnn.recognise.patterns.PATTERNS", (*patterns.PATTERNS[:place], row, *patterns.PATTERNS[place:])
    )

    compiled = pipeline.compile_model(model)
    assert compiled.complete and compiled.coverage.percent == 100
    package = tmp_path / "mish_package"
    pipeline.write_package(compiled, package)
    text = (package / "mlp.py").read_text()
    assert text.count("ttnn.mish(") == 2  # in decode and in prefill
    assert check(package).ok

    references: dict = {"F": torch.nn.functional}
    exec(block("python", 1), references)
    x = torch.randn(4)
    assert torch.equal(references["mish"](x), torch.nn.functional.mish(x))
    done = subprocess.run([sys.executable, "-c", MLP], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
