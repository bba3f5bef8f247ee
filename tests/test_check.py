"""The mock check on a tiny package: what is accepted, what a broken line and a dying process become, and the DRAM count."""

import json
import os
import shutil
import subprocess
import sys
from math import ceil
from unittest import mock

import pytest
from rich.console import Console
from tiny import folder_of

from fx2ttnn.check import check
from fx2ttnn.check.device_ops import count_collectives, is_collective, is_device_op
from fx2ttnn.check.messages import last_words, plain_message
from fx2ttnn.check.render import render
from fx2ttnn.emit import emit
from fx2ttnn.errors import UserError
from fx2ttnn.pipeline import Options, compile_model
from fx2ttnn.targets import load

HIDDEN, LAYERS, HEADS, HEAD_DIM, INTERMEDIATE, VOCAB = 256, 2, 8, 64, 512, 512
USERS, MAX_SEQ_LEN = 32, 256
CONFIG = {
    "model_type": "qwen3",
    "architectures": ["Qwen3ForCausalLM"],
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": HEADS,
    "head_dim": HEAD_DIM,
    "intermediate_size": INTERMEDIATE,
    "vocab_size": VOCAB,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
}


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The tiny model, compiled for one chip."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    compiled = compile_model(Options(str(folder), target="n150", batch=USERS, max_seq_len=MAX_SEQ_LEN))
    return _emitted(compiled, folder / "a package")


@pytest.fixture(scope="module")
def result(package):
    return check(package)


@pytest.fixture(scope="module")
def broken(package, tmp_path_factory):
    """The result for a package whose attention passes a wrong number of heads, whose MLP kills the process, and whose products are too exact."""
    copy = tmp_path_factory.mktemp("broken") / "package"
    shutil.copytree(package, copy)
    _replace(copy / "attention.py", "num_kv_heads=cfg.NUM_KV_HEADS", f"num_kv_heads={HEADS - 3}")
    _replace(copy / "model_config.py", "MathFidelity.HiFi2", "MathFidelity.HiFi4")
    _replace(copy / "mlp.py", "gate = ttnn.linear(", "__import__('os').abort(); gate = ttnn.linear(")
    with mock.patch.dict(os.environ, {"CI": "true"}):  # ttnn colours its log there
        return check(copy)


def test_accepted(result):
    assert result.ok, result.distinct_findings
    assert result.statement == "accepted by ttnn's host code on a mock n150; not run on silicon"
    names = [m.class_name for m in result.modules]
    assert names.index("Qwen3Attention") < names.index("Qwen3DecoderLayer") < names.index("Qwen3ForCausalLM")
    for module in result.modules:
        assert module.device_ops and all(map(is_device_op, module.device_ops))
        assert 0 < module.peak_l1_bytes <= result.l1_usable_bytes
    assert "SdpaDecodeDeviceOperation" in _module(result, "Qwen3Attention").device_ops


def test_device_operations_are_known_by_their_class():
    """Some classes of ttnn lack the usual ending, and some of those send to other chips."""
    entries = ["ttnn::linear", "MatmulDeviceOperation", "DramPrefetcherOperation", "Matmul_RS", "Tensor::to_device"]
    entries += ["AllGatherMinimalMatmulAsyncOp", "RMSAllGatherDeviceOperation", "LayerNormPostAllGatherDeviceOperation"]
    ops = [name for name in entries if is_device_op(name)]
    assert ops == [entries[1], *entries[2:4], *entries[5:]]
    assert [op for op in ops if is_collective(op)] == [entries[3], *entries[5:7]]


def test_a_simulator_in_the_environment_does_not_reach_the_mock(package, result, monkeypatch):
    monkeypatch.setenv("TT_METAL_SIMULATOR", "/nowhere/libttsim_wh.so")
    monkeypatch.setenv("TT_METAL_SLOW_DISPATCH_MODE", "1")
    assert check(package).to_json() == result.to_json()
    code = "import os; from fx2ttnn.emulate.mesh import emulated_mesh as e; e(target='n150').__enter__(); print(*os.environ)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "TT_METAL_SIMULATOR" not in shown and "TT_METAL_MOCK_CLUSTER_DESC_PATH" in shown


def test_totals(result):
    """The layer holds its modules' operations and the two additions; the step holds all layers."""
    layer, in_prefill = result.layers
    assert (layer.method, in_prefill.method, in_prefill.tokens) == ("decode_forward", "prefill_forward", 128)
    parts = [_module(result, name) for name in ("Qwen3RMSNorm", "Qwen3RMSNorm", "Qwen3Attention", "Qwen3MLP")]
    adds = [op for op in _module(result, "Qwen3DecoderLayer").device_ops if "Binary" in op]
    inside = [op for m in parts for op in m.device_ops]
    assert layer.count == LAYERS
    assert layer.totals.device_ops >= len(inside) + 2 and len(adds) >= 3
    model = _module(result, "Qwen3ForCausalLM")
    assert result.step.device_ops == len(model.device_ops) + (LAYERS - 1) * layer.totals.device_ops
    assert result.step.collectives == 0
    assert result.prefill[128].device_ops > in_prefill.totals.device_ops


def test_dram_equals_a_calculation_by_hand(result):
    """Every bank of the chip's DRAM takes as many pages as the fullest one."""
    banks, tile, block_float_tile, row = 12, 32, 1088, 64

    def sharded(k, n):  # [k, n] in bfloat8_b, the tiles of n over the banks
        return k // tile * ceil(n / tile / banks) * block_float_tile * banks

    def rows(count, size):  # `count` pages of `size` bytes, interleaved
        return ceil(count / banks) * size * banks

    norm, head_norm = rows(HIDDEN // tile, row), rows(HEAD_DIM // tile, 2 * tile * tile)
    attention = sharded(HIDDEN, 3 * HEADS * HEAD_DIM) + sharded(HEADS * HEAD_DIM, HIDDEN) + 2 * head_norm
    mlp = 2 * sharded(HIDDEN, INTERMEDIATE) + sharded(INTERMEDIATE, HIDDEN)
    layer = attention + mlp + 2 * norm
    tables = 2 * rows(MAX_SEQ_LEN, 2 * HEAD_DIM) + rows(VOCAB, 2 * HIDDEN)
    cache_tiles = USERS * HEADS * (MAX_SEQ_LEN // tile) * (HEAD_DIM // tile)
    assert _module(result, "Qwen3Attention").weights_bytes == attention
    assert _module(result, "Qwen3MLP").weights_bytes == mlp
    assert result.dram.weights_bytes == LAYERS * layer + tables + norm + sharded(HIDDEN, VOCAB)
    assert result.dram.cache_bytes == LAYERS * 2 * rows(cache_tiles, block_float_tile)


def test_result_is_plain_and_the_same_again(result, package, tmp_path):
    result.write(tmp_path / "check.json")
    text = (tmp_path / "check.json").read_text()
    assert str(package) not in text
    assert json.loads(text)["ok"] is True
    assert not list(package.rglob("__pycache__"))  # nothing is left behind in the package
    shown = _shown(result)
    assert "Qwen3Attention" in shown and "not run on silicon" in shown


def test_refusal_names_line_and_rule(broken, package):
    assert not broken.ok and broken.statement.startswith("not accepted")
    source = (package / "attention.py").read_text().splitlines()
    row = next(
        r
        for r in json.loads((package / "report" / "provenance.json").read_text())
        if r["ttnn"].endswith("nlp_create_qkv_heads_decode")
    )
    attention = _module(broken, "Qwen3Attention")
    (finding,) = attention.findings
    assert (finding.kind, finding.file, finding.rule) == ("refusal", "attention.py", row["rule"])
    assert row["lines"][0] <= finding.line <= row["lines"][1] <= len(source)
    assert finding.call == "ttnn.experimental.nlp_create_qkv_heads_decode"
    assert finding.message.startswith("TT_FATAL") and "backtrace" not in finding.message
    assert attention.device_ops is None and attention.status == "refusal"
    met = ("model.layers.0.self_attn", "model.layers.0", "Qwen3ForCausalLM")
    assert broken.distinct_findings[finding] == tuple(f"{path} (decode)" for path in met)
    assert f"attention.py:{finding.line}" in _shown(broken)


def test_death_is_a_finding_and_the_check_goes_on(broken, result):
    (finding,) = _module(broken, "Qwen3MLP").findings
    assert finding.kind == "crash" and "SIGABRT" in finding.message
    assert finding.file == "mlp.py" and finding.call == "ttnn.linear" and finding.rule.startswith("matmul.toml")
    assert _module(broken, "LmHead").status == "accepted"  # after the module that died
    assert broken.step is None and all(m.method == "prefill_forward" for m in broken.layers)  # cannot be known
    assert broken.dram == result.dram  # is known: everything was allocated before the calls


def test_what_ttnn_warns_of_is_told_once_with_the_line_that_drew_it(broken, result):
    assert result.warnings == ()
    (warning,) = (w for w in broken.warnings if "HiFi3" in w.message)
    assert (warning.kind, warning.file) == ("warning", "attention.py")
    assert warning.call == "ttnn.linear" and warning.rule.startswith("matmul.toml")
    assert f"attention.py:{warning.line}" in _shown(broken)


def test_semaphores_are_counted_where_there_are_collectives(result):
    assert (result.l1_small_bytes, result.l1_small_used_bytes) == (0, 0)
    folder = folder_of("qwen3_galaxy")
    found = check(_emitted(compile_model(Options(str(folder), "galaxy", layers=1, max_seq_len=128)), folder / "out"))
    assert found.ok
    assert 0 < found.l1_small_used_bytes < found.l1_small_bytes
    assert found.l1_usable_bytes + found.l1_small_bytes == load("galaxy").l1_usable_bytes


def test_user_errors(package, tmp_path):
    with pytest.raises(UserError, match="not a package"):
        check(tmp_path)
    copy = tmp_path / "package"
    shutil.copytree(package, copy)
    _replace(copy / "model_config.py", 'TARGET = "n150"', 'TARGET = "n15O"')
    with pytest.raises(UserError, match="unknown target 'n15O'"):
        check(copy)
    _replace(copy / "model_config.py", 'TARGET = "n15O"', "")
    with pytest.raises(UserError, match="does not define TARGET"):
        check(copy)


def test_collectives_by_name():
    names = ["AllGatherDeviceOperation", "ReduceScatterMinimalAsyncDeviceOperation", "AllReduceAsyncDeviceOperation"]
    others = ["MatmulDeviceOperation", "LayerNormPreAllGatherDeviceOperation", "MeshPartitionDeviceOperation"]
    assert count_collectives(names + others) == len(names)


def test_messages():
    text = "TT_FATAL @ /a.cpp:1: x < 2\ninfo:\nx is 3 at 0x7f00\nbacktrace:\n --- lib.so"
    assert plain_message(text) == "TT_FATAL @ /a.cpp:1: x < 2\nx is 3 at 0x…"
    assert last_words("12:00 | critical |          Always | TT_THROW: no (assert.hpp:104)\n") == "TT_THROW: no"
    coloured = "\x1b[90m12:00\x1b[0m | critical | \x1b[35m   Always\x1b[0m | \x1b[37mTT_THROW: no\x1b[0m \x1b[90m(assert.hpp:104)\x1b[0m\n"
    assert last_words(coloured) == "TT_THROW: no"
    assert last_words("nothing") == ""


def _emitted(compiled, out):
    out.mkdir()
    emit(compiled.program, out)
    return out


def _module(result, class_name):
    return next(m for m in result.modules if m.class_name == class_name)


def _shown(result):
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(render(result))
    return console.export_text()


def test_a_class_built_with_several_arguments(tmp_path):
    """Each is checked, and the model has a layer of every kind; ttnn takes None for no window."""
    compiled = compile_model(Options(str(folder_of("gemma3_text")), target="n150", max_seq_len=MAX_SEQ_LEN))
    result = check(_emitted(compiled, tmp_path / "package"))
    assert result.ok
    layers = [m for m in result.modules if m.class_name == "Gemma3DecoderLayer" and m.method == "decode_forward"]
    assert [m.path for m in layers] == ["model.layers.0", "model.layers.1"]
    model = next(m for m in result.modules if m.path == "" and m.method == "decode_forward")
    assert result.step.device_ops == len(model.device_ops)


def _replace(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_a_warning_that_comes_late_or_in_parts_belongs_to_the_call_before(tmp_path):
    code = """
import sys
from pathlib import Path
from fx2ttnn.check.warnings import FastOperation, Warnings

log = Path(sys.argv[1]).open("a", buffering=1)
FastOperation.__call__ = lambda operation, *said: [log.write(text) for text in said]
operation = object.__new__(FastOperation)
warnings = Warnings(Path(sys.argv[1]), lambda message, stack: print(stack[-1][1], message))
LINE = "2026-01-31 12:00:00.000 | warning  |              Op | {} (all_gather.cpp:148)\\n"
operation(LINE.format("at once"))
operation("nothing\\n")
log.write(LINE.format("late"))
operation(LINE.format("whole") + LINE[:40])
log.write(LINE[40:].format("in parts"))
warnings.collect()
"""
    (tmp_path / "log").write_text("")
    shown = subprocess.run([sys.executable, "-c", code, tmp_path / "log"], capture_output=True, text=True, check=True)
    told = [line for line in shown.stdout.splitlines() if "ttnn" not in line and "Config" not in line]
    assert told == ["11 at once", "12 late", "14 whole", "14 in parts"]
