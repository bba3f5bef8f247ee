"""ttnn.to_memory_config with every combination of shapes, types and placements that the model uses."""

import pytest
import ttnn

from ... import model_config as cfg
from . import references
from .harness import Case, Input, check

CASES = [
    # embedding.toml:35
    Case(
        name="model.rotary_emb",
        used=["model.rotary_emb"],
        args=[
            Input((1, 16, 1, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.L1_MEMORY_CONFIG, (False, True)),
            cfg.ROTARY_EMB_COS_MEMORY,
        ],
        kwargs={},
        pcc=0.999,
    ),
    # norm.toml:63
    Case(
        name="model.layers.0.self_attn.q_norm",
        used=["model.layers.0.self_attn.q_norm"],
        args=[
            Input((1, 8, 8, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, cfg.ATTENTION_QKV_REDUCED_MEMORY_2, (True, True)),
            cfg.ATTENTION_QUERY_MEMORY,
        ],
        kwargs={},
        pcc=0.999,
    ),
    # norm.toml:63
    Case(
        name="model.layers.0.self_attn.q_norm'",
        used=["model.layers.0.self_attn.q_norm"],
        args=[
            Input((1, 8, 8, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, cfg.ATTENTION_QUERY_MEMORY, (True, True)),
            cfg.ATTENTION_QUERY_RMS_NORM_MEMORY,
        ],
        kwargs={},
        pcc=0.999,
    ),
    # norm.toml:63
    Case(
        name="model.layers.0.self_attn.k_norm",
        used=["model.layers.0.self_attn.k_norm"],
        args=[
            Input((1, 8, 1, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, cfg.ATTENTION_QKV_REDUCED_MEMORY_3, (True, True)),
            cfg.ATTENTION_KEY_MEMORY,
        ],
        kwargs={},
        pcc=0.999,
    ),
    # norm.toml:63
    Case(
        name="model.layers.0.self_attn.k_norm'",
        used=["model.layers.0.self_attn.k_norm"],
        args=[
            Input((1, 8, 1, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, cfg.ATTENTION_KEY_MEMORY, (True, True)),
            cfg.ATTENTION_KEY_RMS_NORM_MEMORY,
        ],
        kwargs={},
        pcc=0.999,
    ),
    # elementwise.toml:17
    Case(
        name="model.layers.0.self_attn.o_proj attn_output",
        used=["model.layers.0.self_attn.o_proj"],
        args=[
            Input(
                (1, 1, 32, 1024),
                ttnn.bfloat16,
                ttnn.TILE_LAYOUT,
                cfg.ATTENTION_ATTN_OUTPUT_CONCAT_HEADS_MEMORY,
                (True, False),
            ),
            cfg.ATTENTION_ATTN_OUTPUT_RESHARD_MEMORY,
        ],
        kwargs={},
        pcc=0.999,
    ),
    # elementwise.toml:17
    Case(
        name="model.layers.0.mlp.gate_proj hidden_states",
        used=["model.layers.0.mlp.gate_proj"],
        args=[
            Input(
                (1, 1, 32, 5120),
                ttnn.bfloat16,
                ttnn.TILE_LAYOUT,
                cfg.NORM_GATHERED_HIDDEN_STATES_MEMORY,
                (False, False),
            ),
            cfg.MLP_HIDDEN_STATES_MEMORY,
        ],
        kwargs={},
        pcc=0.999,
    ),
    # elementwise.toml:17
    Case(
        name="sampler logits",
        used=["sampler"],
        args=[
            Input((1, 1, 32, 4748), ttnn.bfloat16, ttnn.TILE_LAYOUT, cfg.LOGITS_MEMORY, (True, True)),
            ttnn.DRAM_MEMORY_CONFIG,
        ],
        kwargs={},
        pcc=0.999,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_to_memory_config(mesh_device, case):
    """Every chip's result against torch."""
    check(mesh_device, ttnn.to_memory_config, references.to_memory_config, case)
