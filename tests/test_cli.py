"""The command line: exit codes, one message for bad input, and nothing half-written."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from importlib import metadata
from pathlib import Path

import pytest
from tiny import CONFIGS, folder_of, write_config

from fx2ttnn import cli, pipeline
from fx2ttnn.errors import UserError
from fx2ttnn.lower.rules import load_rules

LLAMA = CONFIGS["llama"]


def refused(result, *words):
    """Exit code 2 and a single line that says what was wrong, without a traceback."""
    code, out, err = result
    lines = [line for line in err.splitlines() if line.strip()]
    assert (code, out) == (2, ""), err
    assert len(lines) == 1, err
    assert lines[0].startswith("fx2ttnn: ")
    for word in words:
        assert word in lines[0], lines[0]


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(Path(folder).rglob("*")) if p.is_file()}


# -- input that cannot be compiled -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("qwen3-33b", ["'qwen3-33b'", "Did you mean qwen3-32b?"]),
        ("no/such/place", ["no model, file or folder named 'no/such/place'"]),
        ("someone/model", ["cannot get the config of 'someone/model'", "built-in"]),
    ],
)
def test_unknown_model(model, words, run, tmp_path):
    refused(run("compile", model, "-o", "out"), *words)
    assert not list(tmp_path.iterdir())


BERT = {"model_type": "bert", "hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 8, "vocab_size": 512}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ('{"model_type": ', ["not valid JSON", "line 1"]),
        ("", ["not valid JSON"]),
        ("[1]", ["not an object"]),
        (LLAMA | {"hidden_size": None}, ["hidden_size"]),
        ({"model_type": "llama"}, ["does not give hidden_size, num_hidden_layers, num_attention_heads, vocab_size"]),
        ({k: v for k, v in LLAMA.items() if k != "model_type"}, ["no model_type"]),
        (BERT, ["bert", "only decoder-only language models"]),
        ({"model_type": "t5", **{k: BERT[k] for k in ("vocab_size",)}}, ["t5", "encoder-decoder"]),
        ({"model_type": "blip", "text_config": {}, "vision_config": {}}, ["blip", "multimodal"]),
        ({"model_type": "vit", "hidden_size": 256}, ["vit", "only decoder-only language models"]),
        (LLAMA | {"hidden_size": 250}, ["hidden size (250)", "attention heads (8)"]),
        (CONFIGS["qwen3"] | {"hidden_size": 250}, ["hidden size 250 is no multiple of 32"]),
        (LLAMA | {"num_key_value_heads": 3}, ["8 attention heads", "3 key/value heads"]),
    ],
    ids=[
        "broken",
        "empty",
        "list",
        "null",
        "no sizes",
        "no type",
        "bert",
        "t5",
        "vision",
        "vit",
        "uneven size",
        "odd size",
        "odd heads",
    ],
)
def test_bad_config(config, words, run, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    refused(run("compile", "model", "--target", "n150", "-o", "out"), *words)
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--batch", "0"], ["batch 0", "1 to 32"]),
        (["--batch", "33"], ["batch 33", "1 to 32"]),
        (["--batch", "-1"], ["batch -1"]),
        (["--target", "n151"], ["unknown target 'n151'", "did you mean"]),
        (["--precision", "fast"], ["unknown precision 'fast'", "performance, accuracy"]),
        (["--layers", "0"], ["layers is 0"]),
        (["--layers", "3"], ["layers is 3", "has 2"]),
        (["--max-seq-len", "257"], ["max_seq_len is 257", "256"]),
        (["--max-seq-len", "-5"], ["max_seq_len is -5"]),
    ],
    ids=lambda value: " ".join(value[:2]),
)
def test_bad_option(options, words, run, tmp_path):
    refused(run("compile", folder_of("llama"), "-o", "out", *options), *words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments", [[], ["compile"], ["compil", "x"], ["compile", "x", "--batch", "many"], ["compile", "x", "--no"]]
)
def test_usage_errors_are_not_tracebacks(arguments, run):
    code, _, err = run(*arguments)
    assert code == 2
    assert "Traceback" not in err


def test_a_model_too_large_for_the_machine(run, tmp_path):
    code, out, err = run("compile", "llama-3.3-70b", "--target", "n150", "-o", "out")
    assert out == "the built-in configuration of meta-llama/Llama-3.3-70B-Instruct\n"
    refused((code, "", err), "GB of DRAM", "more chips")
    assert not list(tmp_path.iterdir())


# -- the output folder -----------------------------------------------------------------------------------------------


def compile_llama(run, *options):
    return run("compile", folder_of("llama"), "--target", "n150", *options)


def test_foreign_files_stay_untouched(run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    refused(compile_llama(run, "-o", "out"), "holds files that fx2ttnn did not write")
    assert contents(tmp_path) == {"out/thesis.txt": b"years of work"}


def test_output_is_a_file(run, tmp_path):
    (tmp_path / "out").write_text("a file")
    refused(compile_llama(run, "-o", "out"), "is not a folder")
    assert contents(tmp_path) == {"out": b"a file"}


def test_output_below_a_file(run, tmp_path):
    (tmp_path / "file").write_text("a file")
    refused(compile_llama(run, "-o", "file/out"), "cannot write")
    assert contents(tmp_path) == {"file": b"a file"}


def test_dangling_link_as_output(run, tmp_path):
    (tmp_path / "out").symlink_to("nowhere")
    refused(compile_llama(run, "-o", "out"), "is not a folder")
    assert (tmp_path / "out").is_symlink()


def test_package_report_and_summary(run, tmp_path):
    code, out, err = compile_llama(run, "-o", "deep/out")
    assert code == 0, err
    assert "100 %" in out
    assert {"model.py", "report/coverage.json", "tests/ops/test_linear.py"} <= set(contents(tmp_path / "deep" / "out"))
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["out"]


def test_an_earlier_package_is_replaced(run, tmp_path):
    """Nothing of it is left, and there is no copy beside it."""
    assert compile_llama(run, "-o", "out")[0] == 0
    fresh = contents(tmp_path / "out")
    (tmp_path / "out" / "left_over.py").write_text("")
    (tmp_path / "out" / "model.py").write_text("broken")
    assert compile_llama(run, "-o", "out")[0] == 0
    assert contents(tmp_path / "out") == fresh
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_an_empty_folder_is_used(run, tmp_path):
    (tmp_path / "out").mkdir()
    assert compile_llama(run, "-o", "out")[0] == 0
    assert (tmp_path / "out" / "model.py").exists()


def test_default_output(run, tmp_path):
    assert compile_llama(run)[0] == 0
    assert [p.name for p in (tmp_path / "generated").iterdir()] == ["tiny_llama_n150"]


@pytest.mark.parametrize("when", ["first file", "report", "rename"])
def test_a_full_disk_leaves_the_earlier_package(when, run, tmp_path, monkeypatch):
    """Wherever writing fails: one message, the old package as it was, nothing beside it."""
    assert compile_llama(run, "-o", "out")[0] == 0
    before = contents(tmp_path)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    target = {
        "first file": "fx2ttnn.emit.emit",
        "report": "fx2ttnn.report.coverage.Coverage.write",
        "rename": "pathlib.Path.chmod",
    }
    monkeypatch.setattr(target[when], full)
    refused(compile_llama(run, "-o", "out"), "cannot write out", "No space left on device", "nothing was written")
    assert contents(tmp_path) == before


def test_a_really_full_disk(run, tmp_path):
    """A file system of 64 KiB, where we may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("needs the right to mount a file system")
    try:
        refused(compile_llama(run, "-o", "disk/out"), "No space left on device", "nothing was written")
        assert not list(disk.iterdir())
    finally:
        subprocess.run(["umount", disk], check=True)


def test_dump_writes_one_text_for_each_stage(run, tmp_path):
    assert compile_llama(run, "-o", "out", "--dump", "stages")[0] == 0
    written = {name: text.decode() for name, text in contents(tmp_path / "stages").items()}
    texts = {name: text for name, text in written.items() if "/" not in name}
    patterns = written["2_recognise/12_apply_patterns.txt"]  # what the pass changed, then the graph
    assert "+ linear = linear(" in patterns and "graph decode(" in patterns
    assert list(texts) == [
        "1_capture.txt",
        "2_recognise.txt",
        "3_plan.txt",
        "4_fuse.txt",
        "5_lower.txt",
        "6_prefill_recognise.txt",
        "7_prefill_plan.txt",
        "8_prefill_lower.txt",
        "9_sampling_lower.txt",
        "coverage.md",
    ]
    words = [
        "aten.linear.default",
        "rms_norm",
        "residual (R, R)",
        "linear(",
        "ttnn.linear",
        "last_tile",
        "mode prefill",
        "ttnn.slice",
        "ttnn.topk",
    ]
    for name, word in zip(texts, [*words, "100.0 %"], strict=True):
        assert word in texts[name], name


# -- unsupported operations ------------------------------------------------------------------------------------------


def test_unsupported_operations_give_a_report_and_no_package(run, tmp_path):
    code, out, err = run("compile", folder_of("unsupported"), "--target", "n150", "-o", "out")
    assert code == 3
    assert {Path(name).name for name in contents(tmp_path)} == {
        "coverage.json",
        "coverage.md",
        "graph.json",
        "profile.json",
    }
    assert "report only" in out
    listed = [line for line in err.splitlines() if line.startswith("unsupported in ")]
    report = json.loads((tmp_path / "out" / "report" / "coverage.json").read_text())
    assert len(listed) == (tmp_path / "out" / "report" / "coverage.md").read_text().count("## Issue draft")
    assert "aten.erf.default" in {line.split()[3] for line in listed} == {row["op"] for row in report["unsupported"]}
    assert "no package" in err


def test_a_report_makes_way_for_a_package(run, tmp_path):
    assert run("compile", folder_of("unsupported"), "--target", "n150", "-o", "out")[0] == 3
    assert compile_llama(run, "-o", "out")[0] == 0
    assert (tmp_path / "out" / "model.py").exists()


# -- interruption ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", pipeline.STAGES)
def test_interrupted_in_any_stage(stage, run, tmp_path, monkeypatch):
    """Ctrl-C as each stage begins: exit code 130, and the folder is as it was."""
    bar = cli.Progress.update

    def interrupt(self, task, description="", **fields):
        bar(self, task, description=description, **fields)
        if description == stage:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)

    monkeypatch.setattr(cli.Progress, "update", interrupt)
    code, _, err = compile_llama(run, "-o", "out")
    assert code == 130
    assert "interrupted; nothing was written" in err
    assert not list(tmp_path.iterdir())


def test_interrupted_while_the_hub_is_asked(run, tmp_path, monkeypatch):
    def interrupted(reference):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "locate", interrupted)
    code, _, err = run("compile", "someone/model", "-o", "out")
    assert (code, "interrupted; nothing was written" in err) == (130, True)
    assert not list(tmp_path.iterdir())


def test_interrupted_while_files_are_written(run, tmp_path, monkeypatch):
    from fx2ttnn import emit

    def interrupted(program, folder):
        (folder / "half.py").write_text("")
        raise KeyboardInterrupt

    monkeypatch.setattr(emit, "emit", interrupted)
    assert compile_llama(run, "-o", "out")[0] == 130
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_real_process_is_interrupted(number, tmp_path):
    """The signal arrives once the first stage has been reached."""
    command = [sys.executable, "-m", "fx2ttnn", "compile", "qwen3-32b", "-o", "out", "--dump", str(tmp_path / "stages")]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    timer = threading.Timer(120, process.kill)
    timer.start()
    while process.poll() is None and not (tmp_path / "stages" / "1_capture.txt").exists():
        time.sleep(0.05)
    process.send_signal(number)
    _, err = process.communicate()
    timer.cancel()
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert [p.name for p in tmp_path.iterdir()] == ["stages"]


# -- as a process ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_module_and_console_script_are_the_same_command(tmp_path):
    write_config(tmp_path / "model", CONFIGS["qwen3"] | {"hidden_size": 250})
    for command in ([sys.executable, "-m", "fx2ttnn"], [str(Path(sys.executable).with_name("fx2ttnn"))]):
        done = subprocess.run([*command, "compile", "model", "-o", "out"], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 2
        assert done.stdout == ""
        assert (
            done.stderr.strip()
            == "fx2ttnn: model/config.json: hidden size 250 is no multiple of 32, the side of a tile on the chip"
        )


def test_help_does_not_wait_for_torch():
    code = "import sys, fx2ttnn.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


CHEAP = """
import sys
from fx2ttnn import cli
sys.argv = ["fx2ttnn", "compile", *sys.argv[1:]]
try:
    cli.main()
finally:
    print("torch" in sys.modules, "transformers" in sys.modules)
"""


@pytest.mark.parametrize(
    "options",
    [
        ["qwen3-33b"],
        ["nosuchfolder/qwen3-32b"],
        ["qwen3-32b", "--target", "n151"],
        ["qwen3-32b", "--batch", "33"],
        ["qwen3-32b", "--precision", "fast"],
        ["qwen3-32b", "-o", "."],
    ],
    ids=" ".join,
)
def test_bad_options_do_not_wait_for_torch(options, tmp_path):
    (tmp_path / "thesis.txt").touch()
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", CHEAP, *options]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    refused((done.returncode, done.stdout.removesuffix("False False\n"), done.stderr))


@pytest.mark.slow
def test_nothing_but_our_own_words(tmp_path):
    """The first compile of all, which reads ttnn's operations, of a config about which transformers has advice."""
    rope = {"rope_type": "yarn", "factor": 3.0, "original_max_position_embeddings": 64, "strange": 1}
    fields = CONFIGS["qwen3"] | {
        "rope_theta": None,
        "rope_parameters": {"rope_theta": 1e4, **rope},
        "bos_token_id": 600,
    }
    write_config(tmp_path / "model", fields)
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "fx2ttnn", "compile", "model", "--target", "n150", "--layers", "1", "-o", "out"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("model on n150")


def test_a_built_in_configuration_is_said_first(run):
    code, out, _ = run("profile", "qwen3-0.6b", "--target", "n150", "--layers", "1")
    assert code == 0
    assert out.startswith("the built-in configuration of Qwen/Qwen3-0.6B\n")


def test_version_and_forms_of_a_model_in_help(run):
    assert run("--version")[:2] == (0, f"fx2ttnn {metadata.version('fx2ttnn')}\n")
    words = run("compile", "--help")[1]
    assert all(form in words for form in ("config.json", ".gguf", "built-in name", "hub id"))


def test_swapped_arguments_of_explain(run, tmp_path):
    (tmp_path / "package").mkdir()
    words = "the package comes first, then the line: fx2ttnn explain package attention.py:37"
    refused(run("explain", "attention.py:37", "package"), words)


@pytest.mark.parametrize(
    ("module", "folder", "call"),
    [
        ("fx2ttnn.targets", "_HERE", ["targets"]),
        ("fx2ttnn.models", "_FOLDER", ["compile", "x"]),
        ("fx2ttnn.emit", "TEMPLATES", ["compile", folder_of("llama"), "--target", "n150"]),
    ],
)
def test_an_installation_without_its_data_says_so(module, folder, call, run, tmp_path, monkeypatch):
    monkeypatch.setattr(f"{module}.{folder}", tmp_path)
    refused(run(*call), f"{tmp_path} holds no", "this installation of fx2ttnn is incomplete")
    assert not list(tmp_path.rglob("*.*"))


def test_an_installation_without_rules_says_so(tmp_path):
    with pytest.raises(UserError, match=f"{tmp_path} holds no .*.toml: this installation of fx2ttnn is incomplete"):
        load_rules(tmp_path)


def test_targets_are_listed(run):
    code, out, _ = run("targets")
    assert code == 0
    assert all(name in out for name in ("n150", "n300", "t3k", "galaxy", "8x4"))
