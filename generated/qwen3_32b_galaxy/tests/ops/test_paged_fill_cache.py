"""ttnn.experimental.paged_fill_cache with every combination of shapes, types and placements that the model uses."""

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
            Input((576, 1, 64, 128), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, True)),
            Input((1, 1, 128, 128), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, False)),
            Input(
                (1, 2),
                ttnn.int32,
                ttnn.ROW_MAJOR_LAYOUT,
                ttnn.DRAM_MEMORY_CONFIG,
                (False, True),
                values="page_table",
                high=576,
            ),
        ],
        kwargs={
            "batch_idx": 0,
        },
        written=(0,),
        returns=False,
        pcc=0.999,
    ),
    # cache.toml:47
    Case(
        name="model.layers.0.self_attn'",
        used=["model.layers.0.self_attn"],
        args=[
            Input((576, 1, 64, 128), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, True)),
            Input((1, 1, 512, 128), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, False)),
            Input(
                (1, 8),
                ttnn.int32,
                ttnn.ROW_MAJOR_LAYOUT,
                ttnn.DRAM_MEMORY_CONFIG,
                (False, True),
                values="page_table",
                high=576,
            ),
        ],
        kwargs={
            "batch_idx": 0,
        },
        written=(0,),
        returns=False,
        pcc=0.999,
    ),
    # cache.toml:47
    Case(
        name="model.layers.0.self_attn''",
        used=["model.layers.0.self_attn"],
        args=[
            Input((576, 1, 64, 128), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, True)),
            Input((1, 1, 2048, 128), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, False)),
            Input(
                (1, 32),
                ttnn.int32,
                ttnn.ROW_MAJOR_LAYOUT,
                ttnn.DRAM_MEMORY_CONFIG,
                (False, True),
                values="page_table",
                high=576,
            ),
        ],
        kwargs={
            "batch_idx": 0,
        },
        written=(0,),
        returns=False,
        pcc=0.999,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_paged_fill_cache(mesh_device, case):
    """Every chip's result against torch."""
    check(mesh_device, ttnn.experimental.paged_fill_cache, references.paged_fill_cache, case)
