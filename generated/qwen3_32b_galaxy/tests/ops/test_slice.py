"""ttnn.slice with every combination of shapes, types and placements that the model uses."""

import pytest
import ttnn

from . import references
from .harness import Case, Input, check

CASES = [
    # embedding.toml:57
    Case(
        name="last_tile",
        used=[""],
        args=[
            Input((1, 1, 128, 1280), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, True)),
            Input(
                (4,),
                ttnn.int32,
                ttnn.ROW_MAJOR_LAYOUT,
                ttnn.DRAM_MEMORY_CONFIG,
                (False, False),
                values="last_tile_start",
                high=128,
            ),
            Input(
                (4,),
                ttnn.int32,
                ttnn.ROW_MAJOR_LAYOUT,
                ttnn.DRAM_MEMORY_CONFIG,
                (False, False),
                values="last_tile_end",
                high=128,
            ),
        ],
        kwargs={
            "slice_dim": 2,
            "num_devices": 4,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # embedding.toml:57
    Case(
        name="last_tile'",
        used=[""],
        args=[
            Input((1, 1, 512, 1280), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, True)),
            Input(
                (4,),
                ttnn.int32,
                ttnn.ROW_MAJOR_LAYOUT,
                ttnn.DRAM_MEMORY_CONFIG,
                (False, False),
                values="last_tile_start",
                high=512,
            ),
            Input(
                (4,),
                ttnn.int32,
                ttnn.ROW_MAJOR_LAYOUT,
                ttnn.DRAM_MEMORY_CONFIG,
                (False, False),
                values="last_tile_end",
                high=512,
            ),
        ],
        kwargs={
            "slice_dim": 2,
            "num_devices": 16,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # embedding.toml:57
    Case(
        name="last_tile''",
        used=[""],
        args=[
            Input((1, 1, 2048, 1280), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, True)),
            Input(
                (4,),
                ttnn.int32,
                ttnn.ROW_MAJOR_LAYOUT,
                ttnn.DRAM_MEMORY_CONFIG,
                (False, False),
                values="last_tile_start",
                high=2048,
            ),
            Input(
                (4,),
                ttnn.int32,
                ttnn.ROW_MAJOR_LAYOUT,
                ttnn.DRAM_MEMORY_CONFIG,
                (False, False),
                values="last_tile_end",
                high=2048,
            ),
        ],
        kwargs={
            "slice_dim": 2,
            "num_devices": 64,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_slice(mesh_device, case):
    """Every chip's result against torch."""
    check(mesh_device, ttnn.slice, references.slice, case)
