"""ttnn.experimental.rotary_embedding_hf with every combination of shapes, types and placements that the model uses."""

import pytest
import ttnn

from ... import model_config as cfg
from . import references
from .harness import Case, Input, check

CASES = [
    # attention.toml:58
    Case(
        name="model.layers.0.self_attn",
        used=["model.layers.0.self_attn"],
        args=[
            Input((1, 8, 8, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, cfg.ATTENTION_QUERY_MEMORY, (True, True)),
            Input((1, 8, 1, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, cfg.ROTARY_EMB_COS_MEMORY, (False, True)),
            Input((1, 8, 1, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, cfg.ROTARY_EMB_SIN_MEMORY, (False, True)),
        ],
        kwargs={
            "is_decode_mode": True,
        },
        pcc=0.999,
    ),
    # attention.toml:58
    Case(
        name="model.layers.0.self_attn'",
        used=["model.layers.0.self_attn"],
        args=[
            Input((1, 8, 1, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, cfg.ATTENTION_KEY_MEMORY, (True, True)),
            Input((1, 8, 1, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, cfg.ROTARY_EMB_COS_MEMORY, (False, True)),
            Input((1, 8, 1, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, cfg.ROTARY_EMB_SIN_MEMORY, (False, True)),
        ],
        kwargs={
            "is_decode_mode": True,
        },
        pcc=0.999,
    ),
    # attention.toml:96
    Case(
        name="model.layers.0.self_attn''",
        used=["model.layers.0.self_attn"],
        args=[
            Input((1, 8, 128, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, False)),
            Input((1, 1, 128, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)),
            Input((1, 1, 128, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)),
        ],
        kwargs={
            "is_decode_mode": False,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # attention.toml:96
    Case(
        name="model.layers.0.self_attn'''",
        used=["model.layers.0.self_attn"],
        args=[
            Input((1, 1, 128, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, False)),
            Input((1, 1, 128, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)),
            Input((1, 1, 128, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)),
        ],
        kwargs={
            "is_decode_mode": False,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # attention.toml:96
    Case(
        name="model.layers.0.self_attn''''",
        used=["model.layers.0.self_attn"],
        args=[
            Input((1, 8, 2048, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, False)),
            Input((1, 1, 2048, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)),
            Input((1, 1, 2048, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)),
        ],
        kwargs={
            "is_decode_mode": False,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # attention.toml:96
    Case(
        name="model.layers.0.self_attn'''''",
        used=["model.layers.0.self_attn"],
        args=[
            Input((1, 1, 2048, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, False)),
            Input((1, 1, 2048, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)),
            Input((1, 1, 2048, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)),
        ],
        kwargs={
            "is_decode_mode": False,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_rotary_embedding_hf(mesh_device, case):
    """Every chip's result against torch."""
    check(mesh_device, ttnn.experimental.rotary_embedding_hf, references.rotary_embedding_hf, case)
