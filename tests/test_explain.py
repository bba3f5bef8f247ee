"""`fx2ttnn explain`, and `fx2ttnn report --against`: what stands behind a line, and one message for what is no line."""

import json
import shutil

import pytest
from tiny import package

from fx2ttnn.report import data
from fx2ttnn.report.cases import cases
from fx2ttnn.report.explain import explain
from fx2ttnn.report.graph import FORMAT

FOLDER = ("qwen3_galaxy", "galaxy")


def line_of(file, text, nth=0):
    lines = (package(*FOLDER) / file).read_text().splitlines()
    return [n for n, line in enumerate(lines, 1) if text in line][nth]


def test_every_line_of_every_emitted_call_is_explained():
    report = data.read(package(*FOLDER))
    assert report.provenance
    for row in report.provenance:
        for line in {row["lines"][0], row["lines"][1]}:
            behind = explain(report, f"{row['file']}:{line}").behind
            assert behind.row == row
            assert behind.call["ttnn"] == row["ttnn"]
            assert row["module"].startswith(behind.node["module"]) or behind.call["move"]
            assert behind.test is not None


def test_an_emitted_call_names_operation_rule_reason_module_and_test(run):
    line = line_of("mlp.py", "self.down_proj,")
    code, out, err = run("explain", package(*FOLDER), f"mlp.py:{line}")
    assert (code, err) == (0, "")
    for words in (
        "ttnn.linear",
        "lowering_rules/matmul.toml:",
        "DRAM bandwidth is the bound",
        "linear_6",
        "model.layers.0.mlp.down_proj and 63 equal layers, decode",
        "tests/ops/test_linear.py::test_linear[model.layers.0.mlp.down_proj]",
        "(P, S2)",
    ):
        assert words in out, out


def test_the_file_may_be_named_from_here(run, monkeypatch):
    monkeypatch.chdir(package(*FOLDER))
    line = line_of("mlp.py", "self.down_proj,")
    assert run("explain", ".", f"./mlp.py:{line}")[1] == run("explain", package(*FOLDER), f"mlp.py:{line}")[1]


@pytest.mark.parametrize(
    ("file", "text", "what", "nearest"),
    [
        ("attention.py", "self.o_proj = weights.linear(", "loads the weight o_proj", "model.layers.0.self_attn.o_proj"),
        ("attention.py", "def decode_forward", "the head of Qwen3Attention.decode_forward", "model.layers.0.self_attn"),
        ("attention.py", "import ttnn", "an import", "model.layers.0.self_attn"),
        ("decoder.py", "self.mlp.decode_forward(", "runs the module mlp in Qwen3DecoderLayer.decode_forward", "model.layers.0"),
        ("decoder.py", "return", "what Qwen3DecoderLayer.decode_forward returns", "model.layers.0"),
        ("model.py", "import ttnn", "an import", ""),
        ("config.json", "{", "no statement", None),
    ],
)  # fmt: skip
def test_what_is_no_call_is_told_with_the_nearest_call(file, text, what, nearest):
    found = explain(data.read(package(*FOLDER)), f"{file}:{line_of(file, text)}")
    assert found.behind is None
    assert what in found.what
    assert (found.nearest.row["module"] if found.nearest else None) == nearest


def test_a_case_of_an_op_test_leads_to_the_call_it_tests():
    report = data.read(package(*FOLDER))
    for case in cases(report.package)["tests/ops/test_linear.py"]:
        found = explain(report, f"{case.file}:{case.first_line + 1}")
        assert case.test_id in found.what
        assert found.nearest is None or found.nearest.test == case
    first = cases(report.package)["tests/ops/test_linear.py"][0]
    assert explain(report, f"{first.file}:{first.first_line}").nearest.row["ttnn"] == "ttnn.linear"


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("nothing.py:1", "has no file nothing.py"),
        ("mlp.py:0", "there is no line 0"),
        ("mlp.py:99999", "there is no line 99999"),
        ("mlp.py", "is not FILE:LINE"),
        ("mlp.py:x", "is not FILE:LINE"),
        ("/etc/passwd:1", "has no file /etc/passwd"),
        ("../package/../../etc/passwd:1", "has no file"),
    ],
)
def test_what_is_no_line_is_one_message(where, words, run):
    code, out, err = run("explain", package(*FOLDER), where)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("fx2ttnn: ") and words in err


@pytest.mark.parametrize("command", [["explain", "empty", "a.py:1"], ["report", "empty"], ["report", "nowhere"]])
def test_what_is_no_package_is_one_message(command, run, tmp_path):
    (tmp_path / "empty").mkdir()
    code, out, err = run(*command)
    assert (code, out) == (2, "")
    assert err.startswith("fx2ttnn: ") and "compile a model first" in err


def test_report_writes_the_page_and_the_differences(run, tmp_path):
    shutil.copytree(package(*FOLDER), tmp_path / "one")
    code, out, _ = run("report", "one")
    assert code == 0 and "page: one/report/index.html" in out
    plain = (tmp_path / "one" / "report" / "index.html").read_text()
    assert '<section id="diff">' not in plain
    assert run("report", "one", "--against", package("qwen3"))[0] == 0
    both = (tmp_path / "one" / "report" / "index.html").read_text()
    assert '<section id="diff">' in both and "tiny_qwen3 on n150" in both
    code, out, err = run("report", "one", "--against", "nowhere")
    assert (code, out) == (2, "") and "nowhere" in err
    assert json.loads((tmp_path / "one" / "report" / "graph.json").read_text())["format"] == FORMAT
