"""ttnn.sampling with every combination of shapes, types and placements that the model uses."""

import pytest
import ttnn

from ... import model_config as cfg
from . import references
from .harness import Case, Input, check

CASES = [
    # sampling.toml:106
    Case(
        name="sampler",
        used=["sampler"],
        args=[
            Input(
                (1, 1, 32, 1024),
                ttnn.bfloat16,
                ttnn.TILE_LAYOUT,
                ttnn.DRAM_MEMORY_CONFIG,
                (False, False),
                values="distinct_at_the_top",
            ),
            Input(
                (1, 1, 32, 1024),
                ttnn.uint32,
                ttnn.ROW_MAJOR_LAYOUT,
                ttnn.DRAM_MEMORY_CONFIG,
                (False, False),
                values="ids",
                high=32768,
            ),
            Input((32,), ttnn.uint32, ttnn.ROW_MAJOR_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False), values="ones"),
            Input((32,), ttnn.bfloat16, ttnn.ROW_MAJOR_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False), values="ones"),
            Input((32,), ttnn.bfloat16, ttnn.ROW_MAJOR_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False), values="ones"),
        ],
        kwargs={
            "sub_core_grids": cfg.SAMPLE_CORES,
        },
        pcc=0.999,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_sampling(mesh_device, case):
    """Every chip's result against torch."""
    check(mesh_device, ttnn.sampling, references.sampling, case)
