"""ttnn.pad with every combination of shapes, types and placements that the model uses."""

import pytest
import ttnn

from . import references
from .harness import Case, Input, check

CASES = [
    # sampling.toml:18
    Case(
        name="sampler",
        used=["sampler"],
        args=[
            Input((1, 1, 32, 4748), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, True)),
            [1, 1, 32, 8192],
            [0, 0, 0, 0],
            -3e38,
        ],
        kwargs={
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_pad(mesh_device, case):
    """Every chip's result against torch."""
    check(mesh_device, ttnn.pad, references.pad, case)
