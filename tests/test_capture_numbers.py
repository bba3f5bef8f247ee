"""The captured graph computes what the Hugging Face model computes, for families that differ in every part of a layer."""

import json

import pytest
import torch

from fx2ttnn.capture import build_model, capture_decode, capture_prefill, load_config
from fx2ttnn.capture.trace import cache_argument
from fx2ttnn.graph.interpret import run

BASE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 80,
    "max_position_embeddings": 64,
    "head_dim": 16,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "rope_theta": 10000.0,
}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
MOE = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
LOCAL = ["sliding_attention", "full_attention"] * 2

FAMILIES = {
    "llama": {"rope_scaling": {**LLAMA3, "original_max_position_embeddings": 16}},
    "qwen2": {},
    "qwen3": {"tie_word_embeddings": True},
    "mistral": {"sliding_window": 3},
    "gemma": {"hidden_activation": "gelu_pytorch_tanh"},
    "gemma2": {"sliding_window": 3, "query_pre_attn_scalar": 16, "layer_types": LOCAL},
    "gemma3_text": {"sliding_window": 3, "query_pre_attn_scalar": 16, "layer_types": LOCAL},
    "phi3": {"sliding_window": None},
    "phi": {"partial_rotary_factor": 0.5},
    "olmo2": {},
    "granite": {"embedding_multiplier": 2.0, "residual_multiplier": 0.5, "logits_scaling": 2.0},
    "gpt_neox": {"rotary_pct": 0.25, "num_key_value_heads": 4},
    "cohere": {},
    "stablelm": {},
    "starcoder2": {"sliding_window": 3},
    "smollm3": {"no_rope_layers": [1, 1, 1, 0]},
    "glm4": {"partial_rotary_factor": 0.5},
    "qwen3_moe": {**MOE, "norm_topk_prob": True},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "olmoe": {"num_experts": 4, "num_experts_per_tok": 2},
    "qwen2_moe": {**MOE, "shared_expert_intermediate_size": 32},
    "glm4_moe": {
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "n_group": 1,
        "topk_group": 1,
    },
    "gemma4_text": {"num_kv_shared_layers": 2, "sliding_window": 3, "layer_types": LOCAL},
    "olmo3": {"sliding_window": 3, "layer_types": LOCAL},
    "cohere2": {"sliding_window": 3, "layer_types": LOCAL},
    "nemotron": {},
    "gpt2": {"n_positions": 64},
    "gpt_oss": {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 3, "layer_types": LOCAL},
}
# A latent vector is cached, and written into parts of the keys; rotary embeddings of complex numbers, and of halves.
LATENT = {
    "num_key_value_heads": 4,
    "q_lora_rank": 24,
    "kv_lora_rank": 16,
    "qk_nope_head_dim": 24,
    "qk_rope_head_dim": 16,
    "v_head_dim": 24,
}
FAMILIES |= {
    "deepseek_v2": {
        **LATENT,
        "q_lora_rank": None,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "n_group": 2,
        "topk_group": 1,
        "topk_method": "group_limited_greedy",
        "first_k_dense_replace": 1,
    },
    "minicpm3": LATENT,
}
BATCH, STEPS, MAX_SEQ_LEN = 3, 6, 16


@pytest.fixture(autouse=True)
def one_thread():
    """Tensors this small are slower on several threads, on a busy machine by far."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def write_config(tmp_path, model_type, **fields):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**BASE, "model_type": model_type, **fields}))
    return str(path)


def random_model(config):
    """A model with random weights and transformers' own attention."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager").eval()
    for parameter in model.parameters():  # norms and biases too: ones and zeros would hide mistakes
        parameter.data.copy_(torch.randn(parameter.shape) * 0.2 + (parameter.data == 1))
    return model


@pytest.mark.parametrize("model_type", FAMILIES)
def test_graph_equals_model(model_type, tmp_path):
    from transformers import DynamicCache

    config = load_config(write_config(tmp_path, model_type, **FAMILIES[model_type]))
    graph = capture_decode(config, batch=BATCH, max_seq_len=MAX_SEQ_LEN).graph
    model = random_model(config)
    theirs, ours = DynamicCache(config=config), {}
    for step in range(STEPS):
        ids = torch.randint(3, 80, (BATCH, 1))
        positions = torch.full((BATCH, 1), step)
        expected = model(
            input_ids=ids, position_ids=positions, use_cache=True, **{cache_argument(model): theirs}
        ).logits
        (logits,) = run(graph, {"input_ids": ids, "position_ids": positions, **model.state_dict()}, ours)
        assert expected.std() > 1e-2
        assert (logits - expected).abs().max() < 1e-4, f"step {step}"


@pytest.mark.parametrize("model_type", [m for m in FAMILIES if m != "gemma4_text"])  # it cuts the mask for prompts
def test_chunks_of_a_prompt_equal_the_model(model_type, tmp_path):
    """Two chunks through the cache give what the model gives for the whole prompt."""
    config = load_config(write_config(tmp_path, model_type, **FAMILIES[model_type]))
    graph = capture_prefill(config, tokens=4, max_seq_len=MAX_SEQ_LEN).graph
    model = random_model(config)
    ids, cache = torch.randint(3, 80, (1, 8)), {}
    expected = model(ids).logits
    for start in (0, 4):
        inputs = {"input_ids": ids[:, start : start + 4], "position_ids": torch.arange(start, start + 4)[None]}
        (logits,) = run(graph, {**inputs, **model.state_dict()}, cache)
        assert (logits - expected[:, start : start + 4]).abs().max() < 1e-4, f"from {start}"


def test_users_at_different_positions(tmp_path):
    """Each user's token goes to that user's own position."""
    config = load_config(write_config(tmp_path, "qwen3"))
    graph = capture_decode(config, batch=2, max_seq_len=MAX_SEQ_LEN).graph
    model = random_model(config)
    tokens = torch.randint(3, 80, (2, 5))
    expected = model(tokens).logits
    cache: dict = {}
    weights = model.state_dict()
    for step in range(6):  # user 1 starts one step later; its first step is overwritten
        at = torch.tensor([[min(step, 4)], [max(step - 1, 0)]])
        (logits,) = run(graph, {"input_ids": tokens.gather(1, at), "position_ids": at, **weights}, cache)
        for user in range(2):
            assert torch.allclose(logits[user, 0], expected[user, at[user, 0]], atol=1e-4)


def test_build_model_has_no_weights(tmp_path):
    model = build_model(load_config(write_config(tmp_path, "llama")))
    assert all(p.device.type == "meta" for p in model.parameters())
    assert all(b.device.type == "cpu" for b in model.buffers())
