"""ttnn.repeat with every combination of shapes, types and placements that the model uses."""

import pytest
import ttnn

from . import references
from .harness import Case, Input, check

CASES = [
    # embedding.toml:35
    Case(
        name="model.rotary_emb",
        used=["model.rotary_emb"],
        args=[
            Input((1, 8, 1, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.L1_MEMORY_CONFIG, (False, True)),
            [1, 2, 1, 1],
        ],
        kwargs={
            "memory_config": ttnn.L1_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_repeat(mesh_device, case):
    """Every chip's result against torch."""
    check(mesh_device, ttnn.repeat, references.repeat, case)
