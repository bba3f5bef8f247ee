"""Checkpoints as people have them: the emitted reader gives what transformers loads, bit for bit."""

import json
import os
import subprocess
import sys

import pytest
import torch
from checkpoints import differences, reader_of, save, saved
from safetensors.torch import load_file
from test_module import GROK
from tiny import CONFIGS, random_model

RENAMED = {  # whose tensors transformers renames by regular expressions
    "exaone": CONFIGS["llama"] | {"model_type": "exaone"},
    "granitemoe": CONFIGS["mixtral"] | {"model_type": "granitemoe"},
}
BLOCK = 128  # side of a block with one scale, in FP8 releases


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    """Folder, reader, source, and tensors of a tiny llama, saved in `folder / "saved"`."""
    return _saved("llama", tmp_path_factory.mktemp("llama"))


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    return _saved("qwen3_moe", tmp_path_factory.mktemp("qwen3_moe"))


def _saved(family, folder):
    reader, source = reader_of(CONFIGS[family], folder)
    _, tensors = saved(source, folder / "saved")
    return folder, reader, source, tensors


def stored(folder):
    return load_file(folder / "saved" / "model.safetensors")


@pytest.mark.parametrize("family", ["gpt2", "exaone", "granitemoe", "mixtral", "deepseek_v3", "phimoe"])
def test_old_and_new_names(family, tmp_path):
    """As transformers saves it, as it holds it, and without the base model's prefix, as AutoModel saves it."""
    reader, source = reader_of((CONFIGS | RENAMED)[family], tmp_path)
    model, tensors = saved(source, tmp_path / "saved")
    assert not differences(reader, tmp_path / "saved", tensors)
    assert not differences(reader, save(tensors, tmp_path / "held"), tensors)
    bare = {n.removeprefix(f"{model.base_model_prefix}."): t for n, t in stored(tmp_path).items()}
    assert not differences(reader, save(bare, tmp_path / "bare"), tensors)


def test_what_the_model_has_no_place_for_is_left_out_and_said(dense, tmp_path, caplog):
    """Layers that predict further tokens, other heads, and buffers that old versions stored."""
    folder, reader, _, tensors = dense
    behind = {n.replace("layers.1.", "layers.2."): t for n, t in stored(folder).items() if "layers.1." in n}
    more = {
        "model.layers.2.eh_proj.weight": torch.ones(2, 2),
        "mtp.norm.weight": torch.ones(2),
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(2),
        "score.weight": torch.ones(2, 2),
    }
    assert not differences(reader, save({**stored(folder), **behind, **more}, tmp_path / "more"), tensors)
    said = caplog.records[0].getMessage()
    assert f"left out are {len(behind) + 4} of the checkpoint's tensors" in said and len(caplog.records) == 1
    places = "model.layers.0.self_attn.rotary_emb.inv_freq", "model.layers.2", "mtp.norm.weight", "score.weight"
    assert said.endswith(": " + ", ".join(places))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "base_model.model."])
def test_a_prefix_that_all_names_have_is_named(dense, tmp_path, prefix):
    folder, reader, _, tensors = dense
    wrapped = {f"{prefix}{name}": tensor for name, tensor in stored(folder).items()}
    (said,) = differences(reader, save(wrapped, tmp_path / "wrapped"), tensors)
    assert f"every name begins with '{prefix}" in said


@pytest.mark.parametrize("name", ["self_attn.q_proj.bias", "self_attn.q_proj.lora_A.weight", "mlp.up_proj.scale"])
def test_what_would_change_a_layer_is_refused(dense, tmp_path, name):
    folder, reader, _, tensors = dense
    more = {f"model.layers.0.{name}": torch.ones(2)}
    (said,) = differences(reader, save({**stored(folder), **more}, tmp_path / "more"), tensors)
    assert f"1 superfluous: model.layers.0.{name}" in said


@pytest.mark.parametrize("sharded", [False, True])
def test_torch_files(dense, tmp_path, sharded):
    folder, reader, _, tensors = dense
    names = sorted(stored(folder))
    parts = [names[::2], names[1::2]] if sharded else [names]
    files = ["a.bin", "b.bin"] if sharded else ["pytorch_model.bin"]
    for file, part in zip(files, parts, strict=True):
        torch.save({name: stored(folder)[name] for name in part}, tmp_path / file)
    index = {name: file for file, part in zip(files, parts, strict=True) for name in part}
    if sharded:
        torch.save({}, tmp_path / "training_args.bin")  # which the index does not name
        (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": index}))
    assert not differences(reader, tmp_path, tensors)
    assert len(reader.open_checkpoint(tmp_path).identity()) == 64


class Harmful:
    def __reduce__(self):
        return print, ("this was run",)


def test_torch_files_run_no_code(dense, tmp_path, capsys):
    _, reader, _, tensors = dense
    torch.save({"model.norm.weight": Harmful()}, tmp_path / "pytorch_model.bin")
    (said,) = differences(reader, tmp_path, tensors)
    assert "is damaged or no .bin file" in said and not capsys.readouterr().out


def test_an_adapter_and_meta_s_form_say_how_to_go_on(dense, tmp_path):
    reader = dense[1]
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "someone/base"}')
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(reader.CheckpointError, match="adapter .* of someone/base: merge it"):
        reader.open_checkpoint(tmp_path)
    for file in tmp_path.iterdir():
        file.unlink()
    (tmp_path / "consolidated.00.pth").write_bytes(b"")
    with pytest.raises(reader.CheckpointError, match="Meta's own form"):
        reader.open_checkpoint(tmp_path)


def in_fp8(state):
    """Projections as a DeepSeek or Qwen release stores them: float8 and a scale for each block."""
    found = dict(state)
    for name, weight in state.items():
        if name.endswith("proj.weight"):
            rows, columns = weight.shape
            block = min(BLOCK, rows), min(BLOCK, columns)
            parts = weight.float().reshape(rows // block[0], block[0], columns // block[1], block[1])
            scale = parts.abs().amax((1, 3)) / 448
            found[name] = (parts / scale[:, None, :, None]).reshape(weight.shape).to(torch.float8_e4m3fn)
            found[f"{name}_scale_inv"] = scale
    return found


FP8 = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [BLOCK, BLOCK]}


def by_transformers(folder):
    """The model that transformers loads from a quantised checkpoint, dequantised."""
    from transformers import AutoModelForCausalLM
    from transformers.quantizers.auto import AutoQuantizationConfig

    settings = json.loads((folder / "config.json").read_text())["quantization_config"]
    config = AutoQuantizationConfig.from_dict({**settings, "dequantize": True})
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, quantization_config=config)


def quantised(base, tmp_path, state, settings):
    """A folder with `state` and the config.json that transformers wrote, with these settings."""
    config = json.loads((base / "saved" / "config.json").read_text())
    return save(state, tmp_path / "quantised", **config, quantization_config=settings)


@pytest.mark.parametrize("kind", ["dense", "mixture"])
def test_fp8_with_a_scale_for_each_block(kind, request, tmp_path):
    folder, reader, _, tensors = request.getfixturevalue(kind)
    path = quantised(folder, tmp_path, in_fp8(stored(folder)), FP8)
    expected = by_transformers(path).state_dict()
    assert not differences(reader, path, expected)
    assert not torch.equal(
        expected["model.layers.0.self_attn.q_proj.weight"], tensors["model.layers.0.self_attn.q_proj.weight"]
    )


MXFP4 = {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}


def in_mxfp4(state):
    """Experts of a gpt-oss as it is published: blocks of 32 numbers of four bits, and their exponents."""
    torch.manual_seed(0)
    found = dict(state)
    for name in [n for n in state if n.endswith(("gate_up_proj", "down_proj"))]:
        experts, inputs, outputs = found.pop(name).shape
        found[f"{name}_blocks"] = torch.randint(0, 256, (experts, outputs, inputs // 32, 16), dtype=torch.uint8)
        found[f"{name}_scales"] = torch.randint(122, 125, (experts, outputs, inputs // 32), dtype=torch.uint8)
    return found


def _mxfp4(tmp_path):
    _saved("gpt_oss", tmp_path)
    return quantised(tmp_path, tmp_path, in_mxfp4(stored(tmp_path)), MXFP4)


def test_mxfp4(tmp_path):
    """The only form in which gpt-oss is published."""
    path = _mxfp4(tmp_path)
    reader, _ = reader_of(CONFIGS["gpt_oss"], tmp_path / "reader")
    assert not differences(reader, path, by_transformers(path).state_dict())


def in_words(integers, bits):
    """[..., integers] -> [..., words] of 32 bits, the first in the lowest bits."""
    parts = integers.long().unflatten(-1, (-1, 32 // bits))
    words = (parts << torch.arange(0, 32, bits)).sum(-1)
    return (words - (words >= 1 << 31) * (1 << 32)).int()


def in_integers(weight, bits, group, mixed=False):
    """Random integers, zero points and scales of a weight's shape, and the weight that they stand for. `mixed`: see `gptq_parts`."""
    outputs, inputs = weight.shape
    q = torch.randint(0, 1 << bits, (inputs, outputs))
    zeros = torch.randint(1, 1 << (bits - 1), (inputs // group, outputs))
    scales = torch.rand(inputs // group, outputs).half() / 100
    found = (q - zeros.repeat_interleave(group, 0)) * scales.repeat_interleave(group, 0)
    return q, zeros, scales, (found[_places(inputs)] if mixed else found).T


def _places(inputs):
    """An order of inputs that goes through the groups in turn."""
    return torch.arange(inputs).unflatten(0, (-1, 32)).T.flatten()


def gptq_parts(q, zeros, scales, bits, form="gptq", mixed=True):
    """As GPTQ stores them: `mixed` inputs, each with the number of its group; its first form has zero points less one."""
    places = _places(len(q)) if mixed else torch.arange(len(q))
    groups = torch.arange(len(q)) // (len(q) // len(scales))
    return {
        "qweight": in_words(q[places].T, bits).T,
        "qzeros": in_words(zeros - int(form == "gptq"), bits),
        "scales": scales,
        "g_idx": groups[places].int(),
    }


def awq_parts(q, zeros, scales, bits, form=""):
    """As AWQ stores them: words along the outputs, in an order of their own."""
    order = torch.tensor([0, 2, 4, 6, 1, 3, 5, 7])
    words = [in_words(t.unflatten(-1, (-1, 8))[..., order].flatten(-2), bits) for t in (q, zeros)]
    return {"qweight": words[0], "qzeros": words[1], "scales": scales}


def as_gptq(stem, weight):
    """A weight rounded to integers of four bits, with a scale for each 32 inputs, as GPTQ's first form stores it."""
    parts = weight.float().T.unflatten(0, (-1, 32))
    scales = (parts.abs().amax(1) / 7).half()
    q = (parts / scales[:, None].float()).round().clamp(-8, 7).flatten(0, 1).long() + 8
    return {
        f"{stem}qweight": in_words(q.T, 4).T,
        f"{stem}qzeros": in_words(torch.full(scales.shape, 8 - 1), 4),
        f"{stem}scales": scales,
        f"{stem}g_idx": (torch.arange(len(q)) // 32).int(),
    }


@pytest.mark.parametrize("kind", ["dense", "mixture"])
@pytest.mark.parametrize(("method", "bits", "form"), [("gptq", 4, "gptq"), ("gptq", 8, "gptq_v2"), ("awq", 4, "")])
def test_gptq_and_awq(kind, method, bits, form, request, tmp_path):
    """A scale and a zero point for each group of inputs; GPTQ's first form stores zero points less one, in an order of groups of its own."""
    folder, reader, _, tensors = request.getfixturevalue(kind)
    state, expected = stored(folder), {}
    torch.manual_seed(0)
    parts = awq_parts if method == "awq" else gptq_parts
    for name in [n for n in state if n.endswith("proj.weight")]:
        stem = name.removesuffix("weight")
        q, zeros, scales, expected[name] = in_integers(state.pop(name), bits, 32, mixed=method == "gptq")
        state |= {f"{stem}{part}": tensor for part, tensor in parts(q, zeros, scales, bits, form).items()}
    settings = {"quant_method": method, "bits": bits, "group_size": 32, "checkpoint_format": form, "version": "gemm"}
    path = quantised(folder, tmp_path, state, settings)
    if kind == "mixture":  # as the experts lie in memory
        expected = _merged(expected)
    others = {n: t for n, t in tensors.items() if n in state}
    assert not differences(reader, path, {**expected, **others})


def _merged(expected):
    """Experts' matrices as transformers holds them: gate and up side by side, all experts in one tensor."""
    found = {n: t for n, t in expected.items() if ".experts." not in n}
    experts = {}
    for name, tensor in expected.items():
        if ".experts." in name:
            stem, _, rest = name.partition(".experts.")
            number, kind, _ = rest.split(".")
            experts.setdefault(stem, {}).setdefault(int(number), {})[kind] = tensor
    for stem, parts in experts.items():
        ordered = [parts[number] for number in sorted(parts)]
        found[f"{stem}.experts.gate_up_proj"] = torch.stack(
            [torch.cat([p["gate_proj"], p["up_proj"]]) for p in ordered]
        )
        found[f"{stem}.experts.down_proj"] = torch.stack([p["down_proj"] for p in ordered])
    return found


INT8 = {
    "quant_method": "compressed-tensors",
    "format": "int-quantized",
    "quantization_status": "compressed",
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "weights": {"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": True, "dynamic": False},
        }
    },
    "ignore": ["lm_head"],
}


def in_int8(state):
    """Random integers of eight bits, with a scale for each output."""
    torch.manual_seed(0)
    found = dict(state)
    for name in [n for n in state if n.endswith("proj.weight")]:
        found[name] = torch.randint(-127, 128, state[name].shape, dtype=torch.int8)
        found[f"{name}_scale"] = torch.rand(len(state[name]), 1).bfloat16() / 100
    return found


def test_compressed_tensors(dense, tmp_path):
    folder, reader, *_ = dense
    path = quantised(folder, tmp_path, in_int8(stored(folder)), INT8)
    assert not differences(reader, path, by_transformers(path).state_dict())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "quantised by bitsandbytes"),
        ({"quant_method": "awq", "bits": 4, "version": "gemv"}, r"quantised by awq \(bits 4, version gemv\)"),
        ({"quant_method": "gptq", "bits": 3}, r"quantised by gptq \(bits 3\)"),
        ({"quant_method": "compressed-tensors", "format": "int-quantized"}, "has no config_groups"),
    ],
)
def test_what_cannot_be_undone_is_said(dense, tmp_path, settings, words):
    folder, reader, _, tensors = dense
    (said,) = differences(reader, quantised(folder, tmp_path, stored(folder), settings), tensors)
    assert words.replace("\\", "") in said


def test_nvfp4_of_modelopt_is_said(dense, tmp_path):
    folder, reader, _, tensors = dense
    path = save(stored(folder), tmp_path / "nvfp4")
    (path / "hf_quant_config.json").write_text(json.dumps({"quantization": {"quant_algo": "NVFP4"}}))
    (said,) = differences(reader, path, tensors)
    assert "quantised by modelopt (quant_algo NVFP4)" in said


def _clear_prompts(model, count, tokens):
    """Of prompts drawn at random those whose greedy tokens are the clearest to Hugging Face's model, with these tokens: few are near ties."""
    torch.manual_seed(1)
    prompts = torch.randint(3, model.config.vocab_size, (64, 12))
    found = model.generate(
        prompts, max_new_tokens=tokens, do_sample=False, eos_token_id=None, pad_token_id=0,
        output_logits=True, return_dict_in_generate=True,
    )  # fmt: skip
    best = torch.stack(found.logits, 1).topk(2).values
    clear = (best[..., 0] - best[..., 1]).amin(1).topk(count).indices
    return prompts[clear].tolist(), found.sequences[clear, prompts.shape[1] :].tolist()


def _generated(folder, tmp_path, prompts, tokens):
    """What the package of a checkpoint's own config.json writes, on the emulator."""
    from fx2ttnn import pipeline

    options = pipeline.Options(str(folder), "n150", precision="accuracy", max_seq_len=64)
    package = tmp_path / f"package_{folder.parent.name}"
    pipeline.write_package(pipeline.compile_model(options), package)
    given = json.dumps([package.name, str(folder), prompts, tokens])
    done = subprocess.run(
        [sys.executable, "-c", GENERATE, given], cwd=tmp_path, capture_output=True, text=True, env=EMULATED
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


GENERATE = """
import importlib, json, sys
from fx2ttnn.emulate import emulated_mesh

sys.path.insert(0, "")
package, folder, prompts, tokens = json.loads(sys.argv[1])
generator = importlib.import_module(f"{package}.generator")
with emulated_mesh(target="n150") as device:
    built = generator.build_generator(folder, device, trace=False)
    found = built.generate(prompts, tokens, stop_tokens=[])
print(json.dumps(found))
"""  # in a process of its own: ttnn serves one cluster in a process, and other tests want another
EMULATED = {**os.environ, "FX2TTNN_BACKEND": "emulator", "LOGURU_LEVEL": "WARNING", "TT_METAL_LOGGER_LEVEL": "FATAL"}


def _fp8(tmp_path):
    _saved("qwen3", tmp_path)
    return quantised(tmp_path, tmp_path, in_fp8(stored(tmp_path)), FP8)


def _gptq(tmp_path):
    _saved("llama", tmp_path)
    state = stored(tmp_path)
    for name in [n for n in state if n.endswith("proj.weight")]:
        state |= as_gptq(name.removesuffix("weight"), state.pop(name))
    return quantised(tmp_path, tmp_path, state, {"quant_method": "gptq", "bits": 4, "group_size": 32})


@pytest.mark.slow
@pytest.mark.parametrize("make", [_mxfp4, _fp8, _gptq])
@torch.no_grad()
def test_greedy_tokens_of_quantised_checkpoints_are_those_of_transformers(make, tmp_path):
    """Compiled from the checkpoint's own config.json. GPTQ needs a package that cannot be installed here: the model gets the weights that it stands for."""
    folder = make(tmp_path)
    if make is _gptq:
        reader, source = reader_of(json.loads((folder / "config.json").read_text()), tmp_path / "plain")
        state = reader.open_checkpoint(folder)
        model = random_model(source.config)
        model.load_state_dict({name: reader.read_tensor(state, name).float() for name in model.state_dict()})
    else:
        model = by_transformers(folder).float()
    prompts, expected = _clear_prompts(model, 3, 4)
    assert _generated(folder, tmp_path, prompts, 4) == expected


def test_a_class_that_is_not_transformers_own(tmp_path):
    """Grok brings its own rules for checkpoints, with each expert by itself; here they are its class's, as for a user's."""
    from fx2ttnn import models

    module = models.module_of(models.config_path("grok-2"))
    reader, source = reader_of(GROK, tmp_path, module)
    tensors = random_model(source.config, source.model_class).bfloat16().state_dict()
    apart = {}
    for name, tensor in tensors.items():
        stem = name.rpartition(".")[0]
        if name.endswith("experts.gate_up_proj"):
            for number, (gate, up) in enumerate(zip(*tensor.chunk(2, 1), strict=True)):
                apart |= {f"{stem}.{number}.w1.weight": gate, f"{stem}.{number}.w3.weight": up}
        elif name.endswith("experts.down_proj"):
            apart |= {f"{stem}.{number}.w2.weight": down for number, down in enumerate(tensor)}
        else:
            apart[name] = tensor
    assert not differences(reader, save(apart, tmp_path / "apart"), tensors)
