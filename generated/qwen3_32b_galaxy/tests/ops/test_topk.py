"""ttnn.topk with every combination of shapes, types and placements that the model uses."""

import pytest
import ttnn

from . import references
from .harness import Case, Input, check

CASES = [
    # sampling.toml:37
    Case(
        name="sampler",
        used=["sampler"],
        args=[
            Input(
                (1, 1, 32, 8192),
                ttnn.bfloat16,
                ttnn.TILE_LAYOUT,
                ttnn.DRAM_MEMORY_CONFIG,
                (True, True),
                values="distinct_at_the_top",
            ),
            32,
        ],
        kwargs={
            "dim": -1,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_topk(mesh_device, case):
    """Every chip's result against torch."""
    check(mesh_device, ttnn.topk, references.topk, case)
