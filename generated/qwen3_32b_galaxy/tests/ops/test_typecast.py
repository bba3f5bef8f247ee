"""ttnn.typecast with every combination of shapes, types and placements that the model uses."""

import pytest
import ttnn

from . import references
from .harness import Case, Input, check

CASES = [
    # cache.toml:47
    Case(
        name="model.layers.0.self_attn",
        used=["model.layers.0.self_attn"],
        args=[
            Input((1, 1, 128, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, False)),
            ttnn.bfloat8_b,
        ],
        kwargs={
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # cache.toml:47
    Case(
        name="model.layers.0.self_attn'",
        used=["model.layers.0.self_attn"],
        args=[
            Input((1, 1, 512, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, False)),
            ttnn.bfloat8_b,
        ],
        kwargs={
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # cache.toml:47
    Case(
        name="model.layers.0.self_attn''",
        used=["model.layers.0.self_attn"],
        args=[
            Input((1, 1, 2048, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, False)),
            ttnn.bfloat8_b,
        ],
        kwargs={
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # sampling.toml:82
    Case(
        name="sampler",
        used=["sampler"],
        args=[
            Input(
                (1, 1, 32, 32),
                ttnn.uint16,
                ttnn.TILE_LAYOUT,
                ttnn.DRAM_MEMORY_CONFIG,
                (True, True),
                values="ids",
                high=32768,
            ),
            ttnn.uint32,
        ],
        kwargs={
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_typecast(mesh_device, case):
    """Every chip's result against torch."""
    check(mesh_device, ttnn.typecast, references.typecast, case)
