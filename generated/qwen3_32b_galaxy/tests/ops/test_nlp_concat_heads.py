"""ttnn.experimental.nlp_concat_heads with every combination of shapes, types and placements that the model uses."""

import pytest
import ttnn

from . import references
from .harness import Case, Input, check

CASES = [
    # attention.toml:193
    Case(
        name="model.layers.0.self_attn",
        used=["model.layers.0.self_attn"],
        args=[Input((1, 8, 128, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, False))],
        kwargs={
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # attention.toml:193
    Case(
        name="model.layers.0.self_attn'",
        used=["model.layers.0.self_attn"],
        args=[Input((1, 8, 512, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, False))],
        kwargs={
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # attention.toml:193
    Case(
        name="model.layers.0.self_attn''",
        used=["model.layers.0.self_attn"],
        args=[Input((1, 8, 512, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, True))],
        kwargs={
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_nlp_concat_heads(mesh_device, case):
    """Every chip's result against torch."""
    check(mesh_device, ttnn.experimental.nlp_concat_heads, references.nlp_concat_heads, case)
