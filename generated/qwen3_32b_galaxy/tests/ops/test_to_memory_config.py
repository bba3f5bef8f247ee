"""ttnn.to_memory_config with every combination of shapes, types and placements that the model uses."""

import pytest
import ttnn

from ... import model_config as cfg
from . import references
from .harness import Case, Input, check

CASES = [
    # elementwise.toml:17
    Case(
        name="sampler logits",
        used=["sampler"],
        args=[
            Input((1, 1, 32, 4748), ttnn.bfloat16, ttnn.TILE_LAYOUT, cfg.LOGITS_MEMORY, (True, True)),
            ttnn.DRAM_MEMORY_CONFIG,
        ],
        kwargs={},
        pcc=0.999,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_to_memory_config(mesh_device, case):
    """Every chip's result against torch."""
    check(mesh_device, ttnn.to_memory_config, references.to_memory_config, case)
