"""The coverage report: what it counts, and the issues it drafts."""

import ast
import json
import subprocess
import sys
from collections import Counter

import pytest
from tiny import CONFIGS, SIZES, compiled, folder_of, package

from fx2ttnn import pipeline
from fx2ttnn.names import layer_of
from fx2ttnn.plan.segments import layer_counts

PACKAGES = [("qwen3", "n150"), ("qwen2", "n300"), ("llama", "t3k"), ("qwen3_galaxy", "galaxy")]
every_package = pytest.mark.parametrize(("model", "target"), PACKAGES)


def cases(folder):
    """Number of `Case(...)` in each file of tests/ops."""
    found = Counter()
    for file in sorted((folder / "tests" / "ops").glob("test_*.py")):
        calls = [
            n
            for n in ast.walk(ast.parse(file.read_text()))
            if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "Case"
        ]
        found[file.stem.removeprefix("test_")] = len(calls)
    return found


# -- counts ----------------------------------------------------------------------------------------------------------


@every_package
def test_every_distinct_call_has_one_op_test(model, target):
    distinct = compiled(model, target).coverage.distinct
    assert cases(package(model, target)) == Counter(row["ttnn"].rsplit(".", 1)[1] for row in distinct)
    assert sum(cases(package(model, target)).values()) == len(distinct)


@pytest.mark.slow
def test_pytest_collects_as_many_op_tests_as_the_report_says():
    """Their names differ, so none hides another."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "tests/ops"]
    done = subprocess.run(command, cwd=package("qwen3"), capture_output=True, text=True)
    found = [line for line in done.stdout.splitlines() if "::" in line]
    assert len(set(found)) == len(found) == len(compiled("qwen3").coverage.distinct), done.stdout + done.stderr


@every_package
def test_all_of_a_known_model_is_covered(model, target):
    coverage = compiled(model, target).coverage
    assert coverage.percent == 100
    assert not coverage.issues
    assert not [row for row in coverage.rows if row.problem]


def test_every_captured_operation_is_counted():
    """The nodes of one layer and of what is around it are each in a row of the report."""
    result = compiled("llama")
    captured = {s for op in result.capture.graph.ops if op.name != "layer" for s in op.sources}
    reported = {s for row in result.coverage.rows for s in row.captured}
    assert reported <= captured
    lost = captured - reported
    names = {s: op.name for op in result.capture.graph.ops for s in op.sources}
    assert not lost, {s: names[s] for s in lost}


@pytest.mark.parametrize("layers", [1, 3, 4])
def test_layers_multiply(layers):
    """What a layer has is counted once for each layer, what is around the layers once."""
    CONFIGS[f"llama_{layers}"] = {**SIZES, "model_type": "llama", "num_hidden_layers": layers}
    one, two = compiled("llama", "n150").coverage, compiled(f"llama_{layers}", "n150").coverage
    assert {row.layers for row in two.rows} == {1, layers}
    around = sum(len(r.captured) for r in one.rows if not r.module.startswith("model.layers"))
    inside = sum(len(r.captured) for r in one.rows if r.module.startswith("model.layers"))
    assert two.to_json()["captured_ops"] == around + layers * inside
    assert two.calls("decode")["ttnn.add"] == two.calls("prefill")["ttnn.add"] == 2 * layers
    assert two.calls("decode")["ttnn.linear"] == two.calls("prefill")["ttnn.linear"] == 5 * layers + 1
    assert two.calls()["ttnn.transformer.paged_scaled_dot_product_attention_decode"] == layers


@every_package
def test_uses_of_distinct_calls_add_up_to_all_calls(model, target):
    """Those of decode, of prefill at each length and of sampling, in the whole model."""
    found = compiled(model, target)
    uses, expected = Counter(), Counter()
    for row in found.coverage.distinct:
        uses[row["ttnn"]] += row["uses"]
    layers = layer_counts(found.plan.capture.graph)
    for _, call in found.program.calls():
        expected[call.function] += layers.get(layer_of(call.op.module) or "", 1)
    assert uses == expected


# -- files -----------------------------------------------------------------------------------------------------------


def test_json_round_trip():
    coverage = compiled("qwen3").coverage
    stored = json.loads((package("qwen3") / "report" / "coverage.json").read_text())
    assert stored == json.loads(json.dumps(coverage.to_json()))
    assert stored["percent"] == 100
    assert stored["model"] == "tiny_qwen3"
    assert len(stored["distinct_calls"]) == len(coverage.distinct)
    assert {row["rules"][0].split(":")[0] for row in stored["rows"] if row["rules"]} >= {"matmul.toml", "norm.toml"}


def test_markdown_names_model_rules_and_calls():
    text = (package("qwen3") / "report" / "coverage.md").read_text()
    assert text.startswith("# Coverage of tiny_qwen3 on n150\n")
    for word in ("100.0 %", "matmul.toml:", "ttnn.linear", "model.layers.0.self_attn"):
        assert word in text


def test_provenance_points_at_the_emitted_lines():
    """Each entry's lines hold the call that it names."""
    folder = package("qwen3_galaxy", "galaxy")
    rows = json.loads((folder / "report" / "provenance.json").read_text())
    assert rows
    for row in rows:
        lines = (folder / row["file"]).read_text().splitlines()[row["lines"][0] - 1 : row["lines"][1]]
        assert row["ttnn"].rsplit(".", 1)[1] in "\n".join(lines), row
        assert row["rule"].split(":")[0].endswith(".toml")


def test_status_says_what_is_composed():
    """A squared ReLU, and heads before tokens, are two calls each; the rest are operations of ttnn's own."""
    coverage = compiled("nemotron").coverage
    status = {(row.op, row.mode): row.status for row in coverage.rows}
    assert status["activation", "decode"] == "composite"
    assert status["linear", "decode"] == "direct"
    assert "| composite |" in coverage.markdown()


# -- unsupported -----------------------------------------------------------------------------------------------------


def test_unsupported_operations_lower_the_percentage():
    """Those alone: what reads their results is looked at as if they were there."""
    coverage = compiled("unsupported").coverage
    assert 0 < coverage.percent < 100
    problems = {(row.op, row.mode): row.status for row in coverage.rows if row.problem}
    assert {problems["aten.erf.default", mode] for mode in coverage.modes} == {"unsupported"}
    missing = sum(len(r.captured) * r.layers for r in coverage.rows if r.problem)
    total = sum(len(r.captured) * r.layers for r in coverage.rows)
    assert coverage.percent == pytest.approx(100 * (1 - missing / total))


def test_each_unsupported_operation_has_an_issue_with_op_shape_and_module():
    result = compiled("unsupported")
    unsupported = result.lowered.unsupported
    assert len(result.coverage.issues) >= len(unsupported) > 1  # decode's first, then prefill's
    for (op, why), text in zip(unsupported, result.coverage.issues, strict=False):
        assert f"`{op.name}`" in text
        assert why in text
        assert (op.module or "the model itself") in text
        assert "tiny_unsupported" in text
        assert "n150, mesh 1x1" in text
        for value in (*op.inputs, *op.outputs):
            assert f"`{list(result.plan.graph.specs[value].shape)}`" in text
        for constant in (a for a in op.args if isinstance(a, float)):
            assert repr(constant) in text
        assert text in result.coverage.markdown()


def test_same_report_for_the_same_model():
    again = pipeline.compile_model(pipeline.Options(str(folder_of("qwen3")), "n150")).coverage
    assert again.to_json() == compiled("qwen3").coverage.to_json()


@pytest.mark.parametrize("family", ["gemma4_text", "beam"])
def test_values_of_any_rank_reach_the_report(family):
    """Scalars, vectors and matrices that no pattern knows are laid whole on every chip; what no row takes is listed, never a crash."""
    CONFIGS[f"plain_{family}"] = {**SIZES, "model_type": family}
    assert compiled(f"plain_{family}").lowered.unsupported
