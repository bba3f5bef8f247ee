"""What an emitted package looks like: the same bytes every time, clean, readable, and never steered by text in a config."""

import ast
import difflib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import CONFIGS, compiled, folder_of, package, write_config

from fx2ttnn import pipeline
from fx2ttnn.emit.configs import constant

PACKAGES = [("qwen3", "n150"), ("qwen2", "n300"), ("llama", "t3k"), ("llama_tied", "n150"), ("qwen3_galaxy", "galaxy")]
SNAPSHOTS = Path(__file__).parent / "snapshots"
SNAPSHOT_FILES = ["attention", "mlp", "decoder", "norm", "model", "model_config"]
every_package = pytest.mark.parametrize(("model", "target"), PACKAGES)


def contents(folder):
    """Every file of a folder by its path within."""
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and "__pycache__" not in p.parts
    }


def python_files(folder):
    return {name: ast.parse(text) for name, text in contents(folder).items() if name.endswith(".py")}


# -- determinism -----------------------------------------------------------------------------------------------------


@every_package
def test_two_emits_are_equal(model, target, tmp_path):
    pipeline.write_package(compiled(model, target), tmp_path / "again")
    assert contents(tmp_path / "again") == contents(package(model, target))


@pytest.mark.slow
def test_a_process_with_another_hash_seed_emits_the_same(tmp_path):
    """Nothing depends on the order of a set."""
    code = (
        "from pathlib import Path; from fx2ttnn import pipeline;"
        f"compiled = pipeline.compile_model(pipeline.Options({str(folder_of('qwen3_galaxy'))!r}, 'galaxy', prefetch=False));"
        f"pipeline.write_package(compiled, Path({str(tmp_path / 'other')!r}))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONHASHSEED": "4242"})
    assert contents(tmp_path / "other") == contents(package("qwen3_galaxy", "galaxy"))


def test_the_place_of_the_package_leaves_no_trace(tmp_path):
    """No path of this machine is in the package."""
    for name, text in contents(package("qwen3")).items():
        for path in (str(folder_of("qwen3").parent), str(package("qwen3").parent), str(Path.home())):
            assert path.encode() not in text, name


# -- form ------------------------------------------------------------------------------------------------------------


def ruff(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "ruff", *arguments, "--no-cache", "--isolated"], capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


@every_package
def test_formatted(model, target):
    code, said = ruff("format", "--check", "--line-length", "120", str(package(model, target)))
    assert code == 0, said


@every_package
def test_no_undefined_or_unused_names(model, target):
    code, said = ruff("check", "--select", "F", str(package(model, target)))
    assert code == 0, said


def test_a_layer_whose_norm_writes_over_its_input(tmp_path):
    """The layer's own test has no sum to compare it with: the addition is its own, too."""
    options = pipeline.Options("qwen2.5-7b", "galaxy", max_seq_len=256, layers=2)
    pipeline.write_package(pipeline.compile_model(options), tmp_path / "package")
    assert "changes hidden_states" in (tmp_path / "package" / "decoder.py").read_text()
    code, said = ruff("check", "--select", "F", str(tmp_path / "package"))
    assert not code, said


@every_package
def test_imports_ttnn_torch_and_libraries_that_read_checkpoints(model, target):
    readers = {"safetensors", "transformers", "compressed_tensors", "huggingface_hub"}
    allowed = {"ttnn", "torch", "tqdm", *readers, *sys.stdlib_module_names}
    for name, tree in python_files(package(model, target)).items():
        if name.startswith("tests/") or name == "backend.py":
            continue
        for node in ast.walk(tree):
            modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                modules = [node.module]
            assert {m.split(".")[0] for m in modules} <= allowed, name


@every_package
def test_nothing_imports_fx2ttnn_but_the_choice_of_emulator(model, target):
    """Tests and demos may run on the emulator; backend.py alone decides that."""
    for name, text in contents(package(model, target)).items():
        if name.endswith(".py") and name != "backend.py":
            assert not re.search(rb"^\s*(import|from) fx2ttnn", text, re.M), name


@every_package
def test_no_numbered_temporaries(model, target):
    """Values have the names that an engineer would give them."""
    forwards = 0
    for name, tree in python_files(package(model, target)).items():
        for function in ast.walk(tree):
            if (
                isinstance(function, ast.FunctionDef)
                and function.name.endswith("forward")
                and not name.startswith("tests/")
            ):
                forwards += 1
                local = [n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
                local += [a.arg for a in function.args.args]
                assert not [n for n in local if re.search(r"_\d+$", n)], f"{name}: {function.name}"
    assert forwards >= 7


SIZES = {"num_attention_heads": 8, "num_key_value_heads": 4, "num_hidden_layers": 2, "hidden_size": 512}
NUMBERED = {
    "ffn.py": (
        "ffn_2 = ttnn.linear(",
        {"model_type": "ctrl", "n_embd": 512, "n_layer": 2, "n_head": 8, "n_positions": 256},
    ),
    "rotary_embs.py": ("def decode_forward(", {"model_type": "granite_swa", "intermediate_size": 512, **SIZES}),
}


@pytest.mark.parametrize("file", NUMBERED)
def test_modules_that_are_numbers(file, tmp_path):
    """Those of a `Sequential` get names; rotary embeddings in a list are no layers."""
    line, fields = NUMBERED[file]
    config = write_config(tmp_path / fields["model_type"], {**fields, "vocab_size": 512})
    pipeline.write_package(pipeline.compile_model(pipeline.Options(str(config), "n150")), tmp_path / "package")
    assert line in (tmp_path / "package" / file).read_text()


MIMO = {
    **{"model_type": "mimo_v2_flash", "head_dim": 64, "vocab_size": 512, "intermediate_size": 512, **SIZES},
    **{"n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 128, "n_group": 1, "topk_group": 1},
    **{"layer_types": ["full_attention", "sliding_attention"], "mlp_layer_types": ["dense", "sparse"]},
    "max_position_embeddings": 256,
}


def test_layers_with_caches_of_different_heads(tmp_path):
    """4 heads of keys in a layer that sees all, 8 in one with a window; values of 128 columns, to which those of keys are filled up."""
    config = write_config(tmp_path / "mimo", MIMO)
    pipeline.write_package(
        pipeline.compile_model(pipeline.Options(str(config), "n150", max_seq_len=64)), tmp_path / "package"
    )
    text = (tmp_path / "package" / "model.py").read_text()
    assert all(f"((pages, {heads}, 64, 128), (pages, {heads}, 64, 128))," in text for heads in (4, 8))
    assert "for kind in LAYER_KINDS[: len(self.layers)]" in text


@every_package
def test_every_class_says_what_it_is(model, target):
    for name, tree in python_files(package(model, target)).items():
        if name not in ("__init__.py",) and not name.endswith("/__init__.py"):
            assert ast.get_docstring(tree), name
        for node in ast.walk(tree):
            assert not isinstance(node, ast.ClassDef) or ast.get_docstring(node), f"{name}: {node.name}"


# -- names of configurations ------------------------------------------------------------------------------------------


def definitions(folder):
    """Name -> source of all that model_config.py assigns."""
    tree = ast.parse((folder / "model_config.py").read_text())
    return {node.targets[0].id: ast.unparse(node.value) for node in tree.body if isinstance(node, ast.Assign)}


def test_configurations_are_named_by_role():
    """What a projection, a norm or a tensor takes has a name of its own; what is equal is defined once."""
    found = definitions(package("qwen3_galaxy", "galaxy"))
    assert found["QKV_PROJ_DECODE_PROGRAM"].startswith("ttnn.MatmulMultiCoreReuseMultiCastDRAMSharded")
    assert found["QKV_PROJ_WEIGHT_MEMORY"].startswith(
        "sharded(ttnn.TensorMemoryLayout.WIDTH_SHARDED, ttnn.BufferType.DRAM"
    )
    assert found["UP_PROJ_DECODE_PROGRAM"] == "GATE_PROJ_DECODE_PROGRAM"
    assert found["UP_PROJ_WEIGHT_MEMORY"] == "GATE_PROJ_WEIGHT_MEMORY"
    assert found["ATTENTION_O_REDUCED_MEMORY"] == found["MLP_DOWN_REDUCED_MEMORY"] == "RESIDUAL_MEMORY"
    values = [source for source in found.values() if "sharded(" in source or "ProgramConfig(" in source]
    assert len(values) == len(set(values))


@every_package
def test_every_configuration_is_used_and_defined(model, target):
    files = contents(package(model, target))
    asked = set(re.findall(r"cfg\.([A-Z]\w*)", "\n".join(t.decode() for n, t in files.items() if n.endswith(".py"))))
    found = definitions(package(model, target))
    assert asked <= found.keys()
    roles = {name for name in found if re.search(r"_(MEMORY|PROGRAM|CORES)(_\d+)?$", name)}
    assert roles <= asked | set(found.values())


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("qkv_proj", "decode", "PROGRAM"), "QKV_PROJ_DECODE_PROGRAM"),
        (("lm_head ", "lm_head", "", "MEMORY"), "LM_HEAD_MEMORY"),
        (("2x'; import os #", "MEMORY"), "_2X_IMPORT_OS_MEMORY"),
        (("\ufb01le\n", "名", "MEMORY"), "FILE_MEMORY"),
    ],
)
def test_names_of_configurations_are_plain(words, name):
    """Whatever modules and weights are called."""
    assert constant(*words) == name
    assert name.isidentifier() and name.isascii()


# -- classes ---------------------------------------------------------------------------------------------------------


def test_what_differs_in_constants_is_one_class():
    """Layers of Gemma 3 with a window and without one: the window, and the program that goes with it, are arguments."""
    folder = package("gemma3_text")
    classes = [
        n.name for f in ("attention", "decoder") for n in python_files(folder)[f"{f}.py"].body if hasattr(n, "bases")
    ]
    assert classes == ["Gemma3Attention", "Gemma3DecoderLayer"]
    attention, decoder, model = ((folder / f"{f}.py").read_text() for f in ("attention", "decoder", "model"))
    assert "def __init__(self, mesh_device, weights, sliding_window_size, attention_decode_program):" in attention
    assert attention.count("sliding_window_size=self.sliding_window_size,") == 2
    assert "sliding_window_size=sliding_window_size," in decoder
    assert "LAYER_CLASSES = [Gemma3DecoderLayer] * 2\n" in model
    assert '{"sliding_window_size": None, "attention_decode_program": cfg.ATTENTION_DECODE_PROGRAM_2},' in model
    tests = (folder / "tests" / "modules" / "test_attention.py").read_text()
    assert "def test_gemma3_attention_decode(" in tests and "def test_gemma3_attention_decode_2(" in tests


# -- snapshots -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", SNAPSHOT_FILES)
def test_snapshot(file):
    """What is emitted for a wide model on a Galaxy, line by line; FX2TTNN_UPDATE_SNAPSHOTS=1 takes it over."""
    emitted = (package("qwen3_galaxy", "galaxy") / f"{file}.py").read_text()
    stored = SNAPSHOTS / "tiny_qwen3_galaxy" / f"{file}.py"
    if os.environ.get("FX2TTNN_UPDATE_SNAPSHOTS") == "1":
        stored.parent.mkdir(parents=True, exist_ok=True)
        stored.write_text(emitted)
    lines = (stored.read_text().splitlines(), emitted.splitlines())
    changes = "\n".join(difflib.unified_diff(*lines, f"snapshot {stored.name}", "emitted now", lineterm="", n=2))
    assert not changes, (
        f"the emitted {file}.py changed; if that is meant, run with FX2TTNN_UPDATE_SNAPSHOTS=1\n{changes}"
    )


# -- hostile text ----------------------------------------------------------------------------------------------------

MARK = "hostile"
TEXTS = [
    f'"""\nimport {MARK}\n"""',
    f"'; import {MARK} #",
    f'"); import {MARK} #\n\nimport {MARK}\n',
    f"{{{{ 7*7 }}}}{MARK}",
    f"{{% include '{MARK}' %}}",
    f"\\{MARK}\\",
    f"{MARK}\r\u2028import {MARK}",
    f"..{os.sep}..{os.sep}{MARK}",
    f"$({MARK}) `{MARK}` -o {MARK}",
]


def shape(tree):
    """A syntax tree without the contents of its strings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = ""
    return ast.dump(tree)


@pytest.fixture(scope="module")
def harmless(tmp_path_factory):
    return _emitted("harmless", tmp_path_factory.mktemp("harmless"))


def _emitted(text, tmp_path):
    """The package of a tiny model whose folder, name and free fields are `text`."""
    fields = {
        **CONFIGS["qwen3"],
        "_name_or_path": text,
        "architectures": [text],
        "custom": {text: text},
        "transformers_version": text,
    }
    folder = write_config(tmp_path / text.replace(os.sep, "_"), fields)
    out = tmp_path / "package"
    pipeline.write_package(pipeline.compile_model(pipeline.Options(str(folder), "n150")), out)
    return out


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_hostile_text_never_becomes_code(text, harmless, tmp_path):
    """It stays inside strings: every file has the same syntax tree as that of a harmless name, and the same name."""
    out = _emitted(text, tmp_path)
    trees, expected = python_files(out), python_files(harmless)
    assert set(contents(out)) == set(contents(harmless))
    for name, tree in trees.items():
        for node in ast.walk(tree):
            words = [getattr(node, f, "") for f in ("id", "attr", "name", "arg", "module")]
            assert not any(MARK in word for word in words if isinstance(word, str)), f"{name}: {ast.dump(node)[:200]}"
        assert shape(tree) == shape(expected[name]), name
    assert "49" + MARK not in (out / "model_config.py").read_text()
    assert {p.name for p in tmp_path.iterdir()} == {"package", text.replace(os.sep, "_")}


def test_hostile_text_in_the_default_name_of_the_package():
    for text in TEXTS:
        out = pipeline.default_out(text, "n150")
        assert out.parent == Path("generated")
        assert re.fullmatch(r"\w+", out.name), out


def test_emit_needs_no_network_and_no_ttnn(tmp_path):
    """Emission reads nothing but its arguments: another working folder, the same bytes."""
    before = os.getcwd()
    os.chdir(tmp_path)
    try:
        pipeline.write_package(compiled("qwen3"), Path("here") / "deep")
    finally:
        os.chdir(before)
    assert contents(tmp_path / "here" / "deep") == contents(package("qwen3"))
    shutil.rmtree(tmp_path / "here")
