"""ttnn.to_layout with every combination of shapes, types and placements that the model uses."""

import pytest
import ttnn

from . import references
from .harness import Case, Input, check

CASES = [
    # norm.toml:141
    Case(
        name="model.layers.0.post_attention_layernorm",
        used=["model.layers.0.post_attention_layernorm", "model.norm"],
        args=[
            Input((1, 1, 1, 5120), ttnn.bfloat16, ttnn.ROW_MAJOR_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)),
            ttnn.TILE_LAYOUT,
        ],
        kwargs={},
        pcc=0.999,
    ),
    # sampling.toml:166
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
