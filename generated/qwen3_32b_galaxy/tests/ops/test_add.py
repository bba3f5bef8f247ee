"""ttnn.add with every combination of shapes, types and placements that the model uses."""

import pytest
import ttnn

from ... import model_config as cfg
from . import references
from .harness import Case, Input, check

CASES = [
    # elementwise.toml:3
    Case(
        name="model.layers.0",
        used=["model.layers.0"],
        args=[
            Input(
                (1, 1, 32, 1280), ttnn.bfloat16, ttnn.TILE_LAYOUT, cfg.EMBED_TOKENS_HIDDEN_STATES_MEMORY, (False, True)
            ),
            Input((1, 1, 32, 1280), ttnn.bfloat16, ttnn.TILE_LAYOUT, cfg.ATTENTION_O_REDUCED_MEMORY, (False, True)),
        ],
        kwargs={
            "memory_config": cfg.RESIDUAL_MEMORY,
        },
        pcc=0.999,
    ),
    # elementwise.toml:3
    Case(
        name="model.layers.0'",
        used=["model.layers.0"],
        args=[
            Input((1, 1, 128, 1280), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, True)),
            Input((1, 1, 128, 1280), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, True)),
        ],
        kwargs={
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # elementwise.toml:3
    Case(
        name="model.layers.0''",
        used=["model.layers.0"],
        args=[
            Input((1, 1, 512, 1280), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, True)),
            Input((1, 1, 512, 1280), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, True)),
        ],
        kwargs={
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # elementwise.toml:3
    Case(
        name="model.layers.0'''",
        used=["model.layers.0"],
        args=[
            Input((1, 1, 256, 1280), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, True)),
            Input((1, 1, 256, 1280), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, True)),
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
                ttnn.uint32,
                ttnn.TILE_LAYOUT,
                ttnn.DRAM_MEMORY_CONFIG,
                (True, True),
                values="ids",
                high=32768,
            ),
            Input(
                (1, 1, 32, 32),
                ttnn.uint32,
                ttnn.TILE_LAYOUT,
                ttnn.DRAM_MEMORY_CONFIG,
                (True, True),
                values="ids",
                high=32768,
            ),
        ],
        kwargs={
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_add(mesh_device, case):
    """Every chip's result against torch."""
    check(mesh_device, ttnn.add, references.add, case)
