"""ttnn.reduce_scatter with every combination of shapes, types and placements that the model uses."""

import pytest
import ttnn

from ... import model_config as cfg
from . import references
from .harness import Case, Input, check

CASES = [
    # collectives.toml:21
    Case(
        name="model.layers.0.mlp.down_proj",
        used=["model.layers.0.mlp.down_proj"],
        args=[Input((1, 1, 32, 5120), ttnn.bfloat16, ttnn.TILE_LAYOUT, cfg.MLP_DOWN_MEMORY, (True, True)), 3],
        kwargs={
            "cluster_axis": 1,
            "memory_config": cfg.MLP_DOWN_SCATTERED_MEMORY,
            "topology": ttnn.Topology.Ring,
            "num_links": 4,
        },
        pcc=0.999,
    ),
    # collectives.toml:21
    Case(
        name="model.layers.0.mlp.down_proj'",
        used=["model.layers.0.mlp.down_proj"],
        args=[Input((1, 1, 128, 5120), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, True)), 3],
        kwargs={
            "cluster_axis": 1,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
            "topology": ttnn.Topology.Ring,
            "num_links": 4,
        },
        pcc=0.999,
    ),
    # collectives.toml:21
    Case(
        name="model.layers.0.mlp.down_proj''",
        used=["model.layers.0.mlp.down_proj"],
        args=[Input((1, 1, 2048, 5120), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, True)), 3],
        kwargs={
            "cluster_axis": 1,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
            "topology": ttnn.Topology.Ring,
            "num_links": 4,
        },
        pcc=0.999,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_reduce_scatter(mesh_device, case):
    """Every chip's result against torch."""
    check(mesh_device, ttnn.reduce_scatter, references.reduce_scatter, case)
