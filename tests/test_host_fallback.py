"""An operation that no row takes runs on the host if that is asked for, and only then."""

import json

import pytest
from suites import assert_passes, run_suite
from tiny import CONFIGS, write_config

from fx2ttnn import pipeline
from fx2ttnn.check import check
from fx2ttnn.ir import Op, Ref
from fx2ttnn.lower import host
from fx2ttnn.report.coverage import coverage

MISH = {**CONFIGS["llama"], "hidden_act": "mish"}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return str(write_config(tmp_path_factory.mktemp("mish") / "mish", MISH))


@pytest.fixture(scope="module")
def compiled(config):
    return pipeline.compile_model(pipeline.Options(config, "n150", max_seq_len=128, host_fallback=True))


@pytest.fixture(scope="module")
def package(compiled, tmp_path_factory):
    out = tmp_path_factory.mktemp("host") / "package"
    pipeline.write_package(compiled, out)
    return out


def test_without_the_option_there_is_no_package(config):
    compiled = pipeline.compile_model(pipeline.Options(config, "n150", max_seq_len=128))
    assert not compiled.complete
    assert not compiled.coverage.hosted


def test_each_is_counted_and_named(compiled):
    found = coverage(compiled.program)
    assert compiled.complete
    assert compiled.program.host_operations() == found.on_host("decode") == 4  # two in each of two layers
    assert {row.op for row in found.hosted} == {"aten.mish.default", "aten.mul.Tensor"}
    assert found.percent < 100
    assert not any(name.startswith("host") for name in found.calls())
    assert "4 operations on the host" in found.markdown()
    assert found.to_json()["on_host"] == {"decode": 4, "prefill": 4}


def test_the_command_line_says_how_many(run, config, tmp_path):
    given = ("compile", config, "--target", "n150", "--max-seq-len", "128", "-o", str(tmp_path / "out"))
    code, _, err = run(*given)
    assert (code, (tmp_path / "out" / "mlp.py").exists()) == (3, False)
    code, _, err = run(*given, "--allow-host-fallback")
    assert code == 0
    assert "4 operations run on the host in each decode step" in err


def test_what_is_emitted(package):
    assert "torch.ops.aten.mish.default" in (package / "mlp.py").read_text()
    assert "self.trace = False" in (package / "decode_loop.py").read_text()
    rows = json.loads((package / "report" / "provenance.json").read_text())
    assert {row["rule"] for row in rows if row["ttnn"] == "host.compute"} == {"on the host"}


@pytest.mark.parametrize(
    "name", ["aten.mish); import os; (.default", "aten.no_such_operation.default", "os.system.x", "linear"]
)
def test_only_operations_of_torch_become_code(name):
    with pytest.raises(ValueError, match="no operation of torch"):
        host.host_call(Op(name, (Ref("x"),), ("y",)), {}, None, None, "")


def test_a_text_becomes_code_only_as_a_type():
    assert host._plain("float32", "Optional[int]").name == "torch.float32"
    for text in ("__import__('os')", "nn", "tanh"):
        with pytest.raises(ValueError, match="takes the text"):
            host._plain(text, "Optional[int]")


@pytest.mark.slow
def test_ttnn_accepts_it_and_the_suite_passes(package):
    assert check(package).ok
    assert_passes(run_suite(package, "tests/ops/test_compute.py", "tests/modules/test_mlp.py", "tests/model"))
