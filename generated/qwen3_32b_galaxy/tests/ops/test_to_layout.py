"""ttnn.to_layout with every combination of shapes, types and placements that the model uses."""

import pytest
import ttnn

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
                ttnn.uint32,
                ttnn.TILE_LAYOUT,
                ttnn.DRAM_MEMORY_CONFIG,
                (False, False),
                values="ids",
                high=32768,
            ),
            ttnn.ROW_MAJOR_LAYOUT,
        ],
        kwargs={},
        pcc=0.999,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_to_layout(mesh_device, case):
    """Every chip's result against torch."""
    check(mesh_device, ttnn.to_layout, references.to_layout, case)
