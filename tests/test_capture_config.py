"""Model references: what is found, and one clear line for what is not."""

import json

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
        ({"model_type": "gpt2", "n_embd": 64, "n_head": 4, "vocab_size": 80}, ["n_layer"]),
        ({**LLAMA, "hidden_size": 1000}, ["1000", "multiple of 32"]),
        ({**LLAMA, "vocab_size": 0}, ["vocab_size is 0", "positive"]),
        ({**LLAMA, "num_hidden_layers": -1}, ["num_hidden_layers is -1"]),
        ({**LLAMA, "num_attention_heads": "many"}, ["'many'"]),
        ({**LLAMA, "num_key_value_heads": 3}, ["4 attention heads", "3 key/value heads"]),
        ({**LLAMA, "num_attention_heads": 3, "num_key_value_heads": 3}, ["3", "64"]),
        ({**SIZES, "model_type": "bert"}, ["encoder", "is_decoder"]),
        ({"model_type": "t5", "d_model": 64, "num_layers": 2, "num_heads": 2, "vocab_size": 80}, ["encoder-decoder"]),
        ({**SIZES, "model_type": "vit"}, ["AutoModelForCausalLM"]),
        ({"model_type": "qwen2_vl", "text_config": {}, "vision_config": {}}, ["multimodal"]),
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
    with pytest.raises(UserError, match="holds no config.json"):
        load_config(str(tmp_path))


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
