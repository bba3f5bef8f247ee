"""Model references: what is found, and one clear line for what is not."""

import json
import re

import pytest

from fx2ttnn import models
from fx2ttnn.capture import capture_decode, load_config, load_source
from fx2ttnn.errors import CaptureError, UserError

SIZES = {"hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4, "vocab_size": 80}
LLAMA = {"model_type": "llama", **SIZES, "intermediate_size": 96, "max_position_embeddings": 64}


def write(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


@pytest.mark.parametrize("name", models.names())
def test_built_in(name):
    config = load_config(name)
    assert config.name_or_path == name
    assert config.num_hidden_layers == json.loads(models.config_path(name).read_text())["num_hidden_layers"]


def test_built_in_by_its_hub_id():
    assert load_config("Qwen/Qwen3-32B").num_hidden_layers == 64
    assert sorted(models.hub_ids()) == models.names()


@pytest.mark.parametrize("reference", ["someone/phi-4", "nosuchfolder/phi-4"])
def test_a_namesake_is_not_the_built_in_model(reference, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=f"no folder {reference}; .* The built-in phi-4 is microsoft/phi-4, not this"):
        load_config(reference)


def test_a_fork_is_what_its_own_config_says(tmp_path, monkeypatch):
    own = write(tmp_path, LLAMA)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda hub_id, file: own)
    source = load_source("someone/phi-4")
    assert (source.config.model_type, source.config.name_or_path) == ("llama", "phi-4")


@pytest.mark.parametrize("reference", ["./phi-4", "/phi-4", "a/b/phi-4", "phi-4/", "models/phi-4.gguf"])
def test_a_path_is_not_the_built_in_model(reference, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no model, file or folder named"):
        load_config(reference)


def test_what_exists_here_goes_before_what_is_built_in(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "phi-4").mkdir()
    write(tmp_path / "phi-4", LLAMA)
    assert load_config("phi-4").model_type == "llama"


def test_folder_and_file(tmp_path):
    path = write(tmp_path, LLAMA)
    assert load_config(path).hidden_size == load_config(str(tmp_path)).hidden_size == 64


def test_of_a_multimodal_model_the_language_model_is_taken(tmp_path):
    """As on the hub: nested fields without what equals their class's defaults. The whole model says whether weights are tied."""
    text = {"model_type": "mistral", **SIZES, "num_key_value_heads": 4, "tie_word_embeddings": False}
    del text["vocab_size"]
    source = load_source(write(tmp_path, {"model_type": "mistral3", "text_config": text, "vision_config": {}}))
    assert (source.part_of, source.fields) == ("mistral3", text | {"vocab_size": 32000})
    whole = {"model_type": "mistral3", "text_config": text, "vision_config": {}, "tie_word_embeddings": True}
    assert load_config(write(tmp_path, whole)).tie_word_embeddings


def test_fewer_layers_cut_per_layer_lists(tmp_path):
    kinds = ["sliding_attention", "full_attention"] * 2
    path = write(tmp_path, {**LLAMA, "model_type": "gemma3_text", "layer_types": kinds, "head_dim": 16})
    assert load_config(path, layers=3).layer_types == kinds[:3]


def test_sizes_under_the_names_of_the_model(tmp_path):
    path = write(tmp_path, {"model_type": "gpt2", "n_embd": 64, "n_layer": 4, "n_head": 4, "vocab_size": 80})
    assert load_config(path, layers=1).num_hidden_layers == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"a": 1,\n "b": }', ["line 2, column 7"]),
        ([1], ["list"]),
        (SIZES, ["no model_type"]),
        ({**LLAMA, "model_type": "zzz"}, ["'zzz'", "transformers 5."]),
        ({"model_type": "llama", "hidden_size": 64}, ["num_hidden_layers, num_attention_heads, vocab_size"]),
        ({"model_type": "gpt2", "n_embd": 64, "n_head": 4, "vocab_size": 80}, ["n_layer, which gpt2 models need"]),
        ({**LLAMA, "hidden_size": 1000}, ["1000", "multiple of 32"]),
        ({**LLAMA, "vocab_size": 0}, ["vocab_size is 0", "positive"]),
        ({**LLAMA, "num_hidden_layers": -1}, ["num_hidden_layers is -1"]),
        ({**LLAMA, "num_attention_heads": "many"}, ["'many'"]),
        ({**LLAMA, "num_key_value_heads": 3}, ["4 attention heads", "3 key/value heads"]),
        ({**LLAMA, "num_attention_heads": 3, "num_key_value_heads": 3}, ["3", "64"]),
        ({**SIZES, "model_type": "bert"}, ["encoder", "is_decoder"]),
        ({"model_type": "t5", "d_model": 64, "num_layers": 2, "num_heads": 2, "vocab_size": 80}, ["encoder-decoder"]),
        ({**SIZES, "model_type": "vit"}, ["AutoModelForCausalLM"]),
        ({"model_type": "blip", "text_config": {}, "vision_config": {}}, ["multimodal", "blip_text_model"]),
    ],
)
def test_refused_config(content, words, tmp_path):
    with pytest.raises(UserError) as error:
        load_config(write(tmp_path, content))
    assert all(word in str(error.value) for word in words) and "\n" not in str(error.value)
    assert "config.json" in str(error.value)


def test_unknown_name_suggests_the_closest():
    with pytest.raises(UserError, match="Did you mean qwen3-32b.*Known models: .*gpt-oss-20b"):
        load_config("qwen3-33b")


def test_hub_that_cannot_be_reached(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="cannot get the config of 'someone/some-model'.*built-in"):
        load_config("someone/some-model")


def test_folder_without_config(tmp_path):
    with pytest.raises(UserError, match="holds no config.json$"):
        load_config(str(tmp_path))


def test_folder_of_several_models(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, LLAMA)
    with pytest.raises(UserError, match="no config.json: give one of .*/one, .*/two$"):
        load_config(str(tmp_path))
    for name in ("one.gguf", "two.gguf"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match="no config.json: give one of .*/one.gguf, .*/two.gguf$"):
        load_config(str(tmp_path))


def test_a_checkpoint_file_is_not_its_folder(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"\x92\x00")
    with pytest.raises(UserError, match=f"model.safetensors is a checkpoint: give the folder .* {tmp_path}$"):
        load_config(str(tmp_path / "model.safetensors"))


@pytest.mark.parametrize("layers", [0, -1, 29])
def test_layers_out_of_range(layers):
    with pytest.raises(UserError, match=f"layers is {layers}; qwen3-0.6b has 28"):
        load_config("qwen3-0.6b", layers=layers)


@pytest.mark.parametrize("sizes", [{"batch": 0}, {"max_seq_len": 0}, {"max_seq_len": 65}])
def test_sizes_out_of_range(sizes, tmp_path):
    with pytest.raises(UserError, match=next(iter(sizes))):
        capture_decode(load_config(write(tmp_path, LLAMA)), **{"max_seq_len": 32, **sizes})


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model_type": "diffllama"}, "own code"),
        (
            {"model_type": "llama4_text", "num_key_value_heads": 2, "attention_chunk_size": 8, "head_dim": 16},
            r"self_attn.* chunk of 8 positions.*--max-seq-len is 32 and may be 8 at most",
        ),
        ({"model_type": "jamba", "num_key_value_heads": 2}, "mamba"),
    ],
)
def test_model_that_cannot_be_captured_says_where(fields, words, tmp_path):
    config = load_config(write(tmp_path, {**LLAMA, **fields}))
    with pytest.raises(CaptureError, match=words):
        capture_decode(config, batch=2, max_seq_len=32)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            {"architectures": ["LlamaForSequenceClassification"]},
            "LlamaForSequenceClassification, which is no language model",
        ),
        ({"architectures": ["LlamaModel"]}, "is that of a LlamaModel"),
        ({"quantization_config": {"quant_method": "fp8"}}, "quantised (fp8): it is dequantised while it is loaded"),
        ({"quantization_config": {"quant_method": "bitsandbytes", "bits": 4}}, "quantised by bitsandbytes (bits 4)"),
    ],
)
def test_what_a_user_should_know_of_the_files_is_said(tmp_path, more, words):
    (note,) = load_source(write(tmp_path, LLAMA | more)).notes
    assert words in note
    assert not load_source(write(tmp_path, LLAMA | {"architectures": ["LlamaForCausalLM"]})).notes


def test_a_quantisation_beside_the_config(tmp_path):
    path = write(tmp_path, LLAMA)
    (tmp_path / "hf_quant_config.json").write_text('{"quantization": {"quant_algo": "NVFP4"}}')
    (note,) = load_source(path).notes
    assert "modelopt (quant_algo NVFP4)" in note and "unquantised" in note


@pytest.mark.parametrize(
    ("file", "words"),
    [("adapter_config.json", "adapter (LoRA) of someone/base: compile that"), ("params.json", "Meta's own form")],
)
def test_folders_in_another_form_say_how_to_go_on(tmp_path, file, words):
    (tmp_path / file).write_text('{"base_model_name_or_path": "someone/base"}')
    with pytest.raises(UserError, match=re.escape(words)):
        load_source(str(tmp_path))


def test_a_class_of_transformers_under_another_type_is_named(tmp_path):
    fields = LLAMA | {"model_type": "kimi_k2", "architectures": ["DeepseekV3ForCausalLM"], "auto_map": {}}
    with pytest.raises(UserError, match="architecture is that of deepseek_v3"):
        load_source(write(tmp_path, fields))


def test_the_type_of_a_text_part_may_be_known_by_the_whole_only(tmp_path):
    """EXAONE 4.5 calls it exaone4_5_text; its class makes an exaone4 of it."""
    text = {**LLAMA, "model_type": "exaone4_5_text", "num_key_value_heads": 4}
    source = load_source(write(tmp_path, {"model_type": "exaone4_5", "text_config": text, "vision_config": {}}))
    assert (source.config.model_type, source.part_of) == ("exaone4", "exaone4_5")


def test_an_older_spelling_of_a_size(tmp_path):
    fields = {**LLAMA, "model_type": "exaone", "num_layers": 3, "num_key_value_heads": 4}
    fields.pop("num_hidden_layers")
    assert load_config(write(tmp_path, fields)).num_hidden_layers == 3
    assert load_config(write(tmp_path, fields), layers=1).num_hidden_layers == 1


def test_nothing_stands_in_for_the_sizes_of_a_multimodal_model_without_a_text_part(tmp_path):
    with pytest.raises(UserError, match="does not give hidden_size"):
        load_source(write(tmp_path, {"model_type": "qwen2_5_vl", "vision_config": {}}))
