"""Tiny models that have every part of a real one, and their compiles, made once for a test session."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch

from fx2ttnn import pipeline

SIZES: dict[str, Any] = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "vocab_size": 512,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "qwen3": {**SIZES, "model_type": "qwen3"},
    "llama": {**SIZES, "model_type": "llama"},
    "llama_tied": {**SIZES, "model_type": "llama", "tie_word_embeddings": True},
    "llama_mha": {**SIZES, "model_type": "llama", "num_key_value_heads": 8},  # as many heads of keys as of queries
    "qwen2": {**SIZES, "model_type": "qwen2"},  # biases on query, key and value
    # Wide enough that splitting it over a Galaxy pays: every collective and the split norm occur.
    "qwen3_galaxy": {
        **SIZES,
        "model_type": "qwen3",
        "num_hidden_layers": 64,
        "hidden_size": 5120,
        "intermediate_size": 25600,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 16384,
        "max_position_embeddings": 8192,
    },
}

LOCAL = ["sliding_attention", "full_attention"]
# Dense families that differ in some part of a layer, by model type; the fields are those in which each differs.
FAMILIES: dict[str, dict[str, Any]] = {
    "phi3": {"sliding_window": None, "hidden_size": 512, "partial_rotary_factor": 0.5},
    "olmo2": {},
    "olmo3": {"sliding_window": 32, "layer_types": LOCAL},
    "gemma": {"hidden_activation": "gelu_pytorch_tanh"},
    "gemma2": {"sliding_window": 32, "layer_types": LOCAL, "attn_logit_softcapping": 50.0},
    "vaultgemma": {"sliding_window": 32, "layer_types": LOCAL},
    "gemma3_text": {
        "sliding_window": 32,
        "layer_types": LOCAL,
        "rope_theta": 1000000.0,
    },  # for the layers without a window
    "granite": {
        "embedding_multiplier": 12.0,
        "residual_multiplier": 0.22,
        "logits_scaling": 8.0,
        "attention_multiplier": 0.015625,
    },
    "starcoder2": {"sliding_window": None},
    "gpt_neox": {"hidden_size": 512, "num_key_value_heads": 8, "rotary_pct": 0.5},
    "phi": {"hidden_size": 512, "partial_rotary_factor": 0.5},
    "stablelm": {"hidden_size": 512, "partial_rotary_factor": 0.5},
    "nemotron": {"partial_rotary_factor": 0.5},
    "cohere": {"hidden_size": 512},
    "cohere2": {"hidden_size": 512, "sliding_window": 32, "layer_types": LOCAL},
    "glm": {"partial_rotary_factor": 0.5},
    "glm4": {"partial_rotary_factor": 0.5},
    "smollm3": {"no_rope_layers": [1, 0]},
    "exaone4": {},
    "mistral": {"sliding_window": 32},
    "one_head": {"model_type": "qwen2", "hidden_size": 64, "num_attention_heads": 1, "num_key_value_heads": 1},
    "nanochat": {"hidden_size": 512},
    "apertus": {"hidden_act": "xielu"},  # an activation with weights
    "bitnet": {"hidden_size": 512, "hidden_act": "relu2"},
    "gptj": {"hidden_size": 512, "num_key_value_heads": 8, "rotary_dim": 32},  # rotates before heads come first
    "codegen": {
        "hidden_size": 512,
        "num_key_value_heads": 8,
        "rotary_dim": 32,
    },  # query, value and key by groups of heads
    "persimmon": {"hidden_size": 512, "num_key_value_heads": 8},  # query, key and value by heads; layer norms of heads
    "gpt_bigcode": {"hidden_size": 512, "num_key_value_heads": 1},  # one head of keys and values
    "opt": {
        "hidden_size": 512,
        "num_key_value_heads": 8,
        "ffn_dim": 1024,
        "word_embed_proj_dim": 512,
    },  # positions from 2 on
    "biogpt": {"hidden_size": 512, "num_key_value_heads": 8, "scale_embedding": False},
    "ministral3": {
        "hidden_size": 512,
        "rope_parameters": {  # queries grow every 2 positions
            "rope_type": "yarn",
            "rope_theta": 1e4,
            "factor": 16.0,
            "original_max_position_embeddings": 2,
            "llama_4_scaling_beta": 0.1,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
        },
    },
    "gemma4_text": {  # every layer scaled by a weight; heads of two sizes
        **{"hidden_size_per_layer_input": 0, "layer_types": LOCAL, "sliding_window": 32, "global_head_dim": 128},
    },
    "gpt2": {"hidden_size": 512, "num_key_value_heads": 8},  # weights stored [in, out], learned positions
}
CONFIGS |= {family: {**SIZES, "model_type": family, **fields} for family, fields in FAMILIES.items()}
# Heads of no whole tiles, or of an odd number of them: zeros are added. With norms of heads, biases, some columns that rotate.
HEADS: dict[str, dict[str, Any]] = {
    "phi3": {"sliding_window": None, "hidden_size": 768, "head_dim": 96},
    "gpt_neox": {"hidden_size": 640, "num_key_value_heads": 8, "head_dim": 80, "rotary_pct": 0.25},
    "qwen3": {"head_dim": 112},
    "olmo2": {"head_dim": 40, "hidden_size": 320},
    "gemma": {"head_dim": 48, "hidden_activation": "gelu_pytorch_tanh"},
    "glm4": {"head_dim": 160, "partial_rotary_factor": 0.5},
}
HEADS = {f"{family}_{fields['head_dim']}": {"model_type": family, **fields} for family, fields in HEADS.items()}
CONFIGS |= {name: {**SIZES, **fields} for name, fields in HEADS.items()}
CONFIGS["cohere_norms"] = {**CONFIGS["cohere"], "use_qk_norm": True}  # norms with other weights for every head
CONFIGS["stablelm_norms"] = {**CONFIGS["stablelm"], "qk_layernorm": True}  # a norm of its own for every head
# More heads than a tile has rows: ttnn makes and joins no more at once.
CONFIGS["many_heads"] = {**CONFIGS["qwen3"], "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 32}
# Zeros would change the mean of a layer norm of heads.
CONFIGS["phi_norms_80"] = {**CONFIGS["phi"], "hidden_size": 640, "head_dim": 80, "qk_layernorm": True}
# Scores of the order of their cap: leaving it out would change much.
CONFIGS["capped"] = {**CONFIGS["gemma2"], "attn_logit_softcapping": 1.0, "query_pre_attn_scalar": 1}
# An activation that no language model of note has, made of an error function: of its operations some have no row.
CONFIGS["unsupported"] = {**CONFIGS["qwen3"], "hidden_act": "laplace"}
# Mixtures of experts, by model type.
MIXTURES: dict[str, dict[str, Any]] = {
    "qwen3_moe": {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 128, "norm_topk_prob": True},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "olmoe": {
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "head_dim": 32,
        "num_key_value_heads": 8,
    },  # weights as they are
    "gpt_oss": {
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "sliding_window": 32,
        "layer_types": ["sliding_attention", "full_attention"],
    },
}
# Routers with a bias for the choice, groups, other norms of the weights; shared experts, one with a gate.
EIGHT = {"num_experts_per_tok": 2, "moe_intermediate_size": 128, "intermediate_size": 512}
MIXTURES |= {
    "qwen2_moe": {**EIGHT, "num_experts": 8, "shared_expert_intermediate_size": 128},
    "glm4_moe": {
        **EIGHT,
        "n_routed_experts": 8,
        "n_group": 4,
        "topk_group": 2,
        "norm_topk_prob": True,
        "routed_scaling_factor": 1.5,
        "first_k_dense_replace": 1,
    },
    "ernie4_5_moe": {**EIGHT, "moe_num_experts": 8, "moe_k": 2, "moe_num_shared_experts": 1},
    "kolibri1": {**EIGHT, "num_experts": 8},
    "solar_open": {**EIGHT, "n_routed_experts": 8, "n_group": 1, "topk_group": 1},  # one group limits nothing
    "minimax_m2": {"num_local_experts": 8, "num_experts_per_tok": 2},
    "afmoe": {**EIGHT, "num_experts": 8},
    # Masks in chunks; complex numbers that rotate before heads come first; without rotation queries grow every 2 positions. Experts read
    # what their router weighs.
    "llama4_text": {
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
        "intermediate_size": 128,
        "intermediate_size_mlp": 512,
        "interleave_moe_layer_step": 2,
        "no_rope_layers": [1, 0],
        "attention_chunk_size": 256,
        "floor_scale": 2,
    },
    # Two choices one after the other, each among scores near the best: here often several.
    "phimoe": {"hidden_size": 512, "num_local_experts": 8, "num_experts_per_tok": 2, "router_jitter_noise": 0.2},
}
MIXTURES["minimax_m3_vl_text"] = {  # the activation of gpt-oss, in a shared expert too
    **{"hidden_size": 512, "num_local_experts": 8, "num_experts_per_tok": 2, "dense_intermediate_size": 512},
    **{"mlp_layer_types": ["dense", "sparse"], "layer_types": ["full_attention"] * 2},
}
MIXTURES["laguna"] = {  # a gate of each head, by a softplus
    **{**EIGHT, "num_experts": 8, "shared_expert_intermediate_size": 128, "sliding_window": 32},
    **{"num_attention_heads_per_layer": [8, 8], "layer_types": LOCAL, "mlp_layer_types": ["dense", "sparse"]},
}
MIXTURES["gemma4_moe"] = {
    # A factor of each expert; a dense MLP beside the experts.
    **{"model_type": "gemma4_text", **FAMILIES["gemma4_text"], "enable_moe_block": True},
    **{"num_experts": 8, "top_k_experts": 2, "moe_intermediate_size": 128},
}
CONFIGS |= {family: {**SIZES, "model_type": family, **fields} for family, fields in MIXTURES.items()}
# Latent attention: a low rank between queries, and between keys and values; of these columns of all heads rotate.
LATENT_HEADS = {
    "num_key_value_heads": 8,
    "q_lora_rank": 96,
    "kv_lora_rank": 64,
    "qk_nope_head_dim": 64,
    "qk_rope_head_dim": 32,
    "v_head_dim": 64,
}
GROUPED = {**EIGHT, "n_routed_experts": 8, "n_group": 4, "topk_group": 2, "first_k_dense_replace": 1}
LATENT: dict[str, dict[str, Any]] = {
    "deepseek_v3": {**LATENT_HEADS, **GROUPED, "n_shared_experts": 1},  # neighbours rotate, and come out as halves
    # Complex numbers rotate; queries of full rank; values of fewer columns than keys; groups in a softmax.
    "deepseek_v2": {
        **LATENT_HEADS,
        **GROUPED,
        "q_lora_rank": None,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "topk_method": "group_limited_greedy",
    },
    # Keys and values of whole tiles and of one size; one group.
    "glm4_moe_lite": {
        **LATENT_HEADS,
        **GROUPED,
        "qk_nope_head_dim": 192,
        "qk_rope_head_dim": 64,
        "v_head_dim": 256,
        "n_group": 1,
        "topk_group": 1,
    },
    "minicpm3": LATENT_HEADS,  # halves rotate; residuals are scaled by the number of layers
}
_WITHOUT_HEAD_DIM = {name: value for name, value in SIZES.items() if name != "head_dim"}  # that of what rotates
CONFIGS |= {family: {**_WITHOUT_HEAD_DIM, "model_type": family, **fields} for family, fields in LATENT.items()}
# Wide enough that splitting the experts over a mesh pays.
WIDER = {"hidden_size": 1024, "num_attention_heads": 16, "num_key_value_heads": 8}
CONFIGS["qwen3_moe_wide"] = {
    **CONFIGS["qwen3_moe"],
    **WIDER,
    "num_experts": 64,
    "num_experts_per_tok": 4,
    "moe_intermediate_size": 512,
}
CONFIGS["llama4_wide"] = {**CONFIGS["llama4_text"], **WIDER, "num_local_experts": 64, "intermediate_size": 512}
CONFIGS["mixtral_wide"] = {**CONFIGS["mixtral"], **WIDER, "intermediate_size": 2048}

# For packages whose lines are broken one at a time: layers of two kinds, two of one kind; MLPs and heads that a mesh splits, a vocabulary it does not.
MUTATED: dict[str, Any] = {
    **CONFIGS["qwen3"],
    **{"hidden_size": 512, "intermediate_size": 4096, "vocab_size": 2016, "num_hidden_layers": 3},
    **{"layer_types": [*LOCAL, "full_attention"], "sliding_window": 96, "use_sliding_window": True},
}


def write_config(folder: Path, fields: dict[str, Any]) -> Path:
    """`folder` with a config.json of these fields."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(fields))
    return folder


@cache
def folder_of(model: str) -> Path:
    """A folder with the config of one of `CONFIGS`; it is named `tiny_<model>`."""
    return write_config(Path(tempfile.mkdtemp(prefix="fx2ttnn_tests_")) / f"tiny_{model}", CONFIGS[model])


@cache
def compiled(
    model: str, target: str = "n150", batch: int = 32, max_seq_len: int | None = None, precision: str = "performance"
):
    """All stages but emit for one of `CONFIGS`, without the prefetcher, which test_prefetch.py is about."""
    return pipeline.compile_model(
        pipeline.Options(str(folder_of(model)), target, batch, max_seq_len, precision, prefetch=False)
    )


@cache
def package(model: str, target: str = "n150") -> Path:
    """The emitted package of one of `CONFIGS`."""
    out = Path(tempfile.mkdtemp(prefix="fx2ttnn_tests_")) / "package"
    pipeline.write_package(compiled(model, target), out)
    return out


@cache
def config_of(model: str):
    """The transformers configuration of one of `CONFIGS`."""
    from fx2ttnn.capture import load_config

    return load_config(str(folder_of(model)))


def random_model(config: Any, model_class: Any = None) -> torch.nn.Module:
    """Hugging Face's model with random weights, in float32; norms and biases are random too, ones and zeros would hide mistakes."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    make = model_class._from_config if model_class else AutoModelForCausalLM.from_config
    model = make(config, dtype=torch.float32, attn_implementation="eager").eval()
    for tensor in model.state_dict().values():
        tensor.copy_(torch.randn(tensor.shape) * 0.2 + (tensor == 1))
    return model
