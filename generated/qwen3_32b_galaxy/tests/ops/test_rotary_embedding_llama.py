"""ttnn.experimental.rotary_embedding_llama with every combination of shapes, types and placements that the model uses."""

import pytest
import ttnn

from . import references
from .harness import Case, Input, Resource, check

CASES = [
    # attention.toml:132
    Case(
        name="model.layers.0.self_attn",
        used=["model.layers.0.self_attn"],
        args=[
            Input((1, 8, 128, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, False)),
            Input((1, 1, 128, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)),
            Input((1, 1, 128, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)),
            Resource("quarter_turn"),
        ],
        kwargs={
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # attention.toml:132
    Case(
        name="model.layers.0.self_attn'",
        used=["model.layers.0.self_attn"],
        args=[
            Input((1, 1, 128, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, False)),
            Input((1, 1, 128, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)),
            Input((1, 1, 128, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)),
            Resource("quarter_turn"),
        ],
        kwargs={
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # attention.toml:132
    Case(
        name="model.layers.0.self_attn''",
        used=["model.layers.0.self_attn"],
        args=[
            Input((1, 8, 2048, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, False)),
            Input((1, 1, 2048, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)),
            Input((1, 1, 2048, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)),
            Resource("quarter_turn"),
        ],
        kwargs={
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # attention.toml:132
    Case(
        name="model.layers.0.self_attn'''",
        used=["model.layers.0.self_attn"],
        args=[
            Input((1, 1, 2048, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, False)),
            Input((1, 1, 2048, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)),
            Input((1, 1, 2048, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)),
            Resource("quarter_turn"),
        ],
        kwargs={
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_rotary_embedding_llama(mesh_device, case):
    """Every chip's result against torch."""
    check(mesh_device, ttnn.experimental.rotary_embedding_llama, references.rotary_embedding_llama, case)
