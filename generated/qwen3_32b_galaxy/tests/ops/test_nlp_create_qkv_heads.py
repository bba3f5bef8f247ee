"""ttnn.experimental.nlp_create_qkv_heads with every combination of shapes, types and placements that the model uses."""

import pytest
import ttnn

from ... import model_config as cfg
from . import references
from .harness import Case, Input, check

CASES = [
    # attention.toml:150
    Case(
        name="model.layers.0.self_attn",
        used=["model.layers.0.self_attn"],
        args=[Input((1, 1, 128, 1280), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, False))],
        kwargs={
            "num_heads": cfg.NUM_HEADS,
            "num_kv_heads": cfg.NUM_KV_HEADS,
            "transpose_k_heads": False,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # attention.toml:150
    Case(
        name="model.layers.0.self_attn'",
        used=["model.layers.0.self_attn"],
        args=[Input((1, 1, 512, 1280), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, False))],
        kwargs={
            "num_heads": cfg.NUM_HEADS,
            "num_kv_heads": cfg.NUM_KV_HEADS,
            "transpose_k_heads": False,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # attention.toml:150
    Case(
        name="model.layers.0.self_attn''",
        used=["model.layers.0.self_attn"],
        args=[Input((1, 1, 512, 1280), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, True))],
        kwargs={
            "num_heads": cfg.NUM_HEADS,
            "num_kv_heads": cfg.NUM_KV_HEADS,
            "transpose_k_heads": False,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_nlp_create_qkv_heads(mesh_device, case):
    """Every chip's result against torch."""
    check(mesh_device, ttnn.experimental.nlp_create_qkv_heads, references.nlp_create_qkv_heads, case)
