"""Vision-language models whose language model has no causal class of its own in transformers."""

import pytest
import torch
from checkpoints import differences, reader_of, save
from recognised import assert_equals_model
from tiny import random_model

from fx2ttnn.capture import load_source

TEXT = {
    **{"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2, "vocab_size": 512, "head_dim": 64},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 256, "pad_token_id": 0},
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [8, 12, 12]},
}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 128}
WHOLES = {
    "qwen2_vl": TEXT,
    "qwen2_5_vl": TEXT,
    "qwen3_vl": TEXT,
    "qwen3_vl_moe": TEXT | EXPERTS,
    "glm4v": TEXT,
    "mllama": TEXT
    | {"num_hidden_layers": 3, "cross_attention_layers": [1], "rope_parameters": {"rope_type": "default"}},
}


def fields_of(whole, nested=True):
    text = WHOLES[whole]
    return {"model_type": whole, **({"text_config": text} if nested else text), "tie_word_embeddings": False}


@pytest.mark.parametrize("whole", WHOLES)
@torch.no_grad()
def test_on_text_it_is_the_whole_model(whole, tmp_path):
    """The class for text and images, with the same weights, gives the same logits; so does our graph."""
    from transformers import AutoModelForImageTextToText
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    _, source = reader_of(fields_of(whole), tmp_path)
    ours = random_model(source.config, source.model_class)
    with torch.device("meta"):  # its other parts have no weights
        theirs = AutoModelForImageTextToText.from_config(CONFIG_MAPPING[whole].from_dict(fields_of(whole))).eval()
    theirs.model.language_model, theirs.lm_head = ours.model, ours.lm_head
    ids = torch.randint(3, 512, (2, 9))
    assert torch.equal(theirs(input_ids=ids).logits, ours(input_ids=ids).logits)
    assert_equals_model(source.config, source.model_class)


@pytest.mark.parametrize("nested", [True, False])
def test_old_configs_have_the_sizes_of_the_text_beside_the_other_parts(nested, tmp_path):
    import json

    (tmp_path / "config.json").write_text(json.dumps(fields_of("qwen2_5_vl", nested) | {"vision_config": {}}))
    source = load_source(str(tmp_path))
    assert (source.config.hidden_size, source.part_of, source.module.class_name) == (256, "qwen2_5_vl", "LanguageModel")


@pytest.mark.parametrize("stem", ["model.", "model.language_model.", "language_model.model."])
def test_its_checkpoint_in_older_and_newer_names(stem, tmp_path):
    reader, source = reader_of(fields_of("qwen3_vl_moe"), tmp_path)
    tensors = random_model(source.config, source.model_class).bfloat16().state_dict()
    stored = {name.replace("model.", stem, 1) if name.startswith("model.") else name: t for name, t in tensors.items()}
    more = {"visual.blocks.0.norm1.weight": torch.ones(2)}
    assert not differences(reader, save(stored | more, tmp_path / "stored"), tensors)
