"""ttnn.mesh_partition with every combination of shapes, types and placements that the model uses."""

import pytest
import ttnn

from . import references
from .harness import Case, Input, check

CASES = [
    # collectives.toml:87
    Case(
        name="model.embed_tokens",
        used=["model.embed_tokens"],
        args=[Input((1, 1, 2048, 1280), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, True)), 2, 0],
        kwargs={
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_mesh_partition(mesh_device, case):
    """Every chip's result against torch."""
    check(mesh_device, ttnn.mesh_partition, references.mesh_partition, case)
