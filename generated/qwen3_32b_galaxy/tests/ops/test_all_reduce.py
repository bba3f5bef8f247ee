"""ttnn.all_reduce with every combination of shapes, types and placements that the model uses."""

import pytest
import ttnn

from . import references
from .harness import Case, Input, check

CASES = [
    # collectives.toml:4
    Case(
        name="model.layers.0.self_attn",
        used=["model.layers.0.self_attn"],
        args=[Input((1, 1, 128, 1280), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, True))],
        kwargs={
            "cluster_axis": 1,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
            "topology": ttnn.Topology.Ring,
            "num_links": 4,
        },
        pcc=0.999,
    ),
    # collectives.toml:4
    Case(
        name="model.layers.0.self_attn.o_proj",
        used=["model.layers.0.mlp.down_proj", "model.layers.0.self_attn.o_proj"],
        args=[Input((1, 1, 128, 1280), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, True))],
        kwargs={
            "cluster_axis": 0,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
            "topology": ttnn.Topology.Ring,
            "num_links": 4,
        },
        pcc=0.999,
    ),
    # collectives.toml:4
    Case(
        name="model.layers.0.self_attn'",
        used=["model.layers.0.self_attn"],
        args=[Input((1, 1, 512, 1280), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, True))],
        kwargs={
            "cluster_axis": 1,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
            "topology": ttnn.Topology.Ring,
            "num_links": 4,
        },
        pcc=0.999,
    ),
    # collectives.toml:4
    Case(
        name="model.layers.0.self_attn.o_proj'",
        used=["model.layers.0.mlp.down_proj", "model.layers.0.self_attn.o_proj"],
        args=[Input((1, 1, 512, 1280), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, True))],
        kwargs={
            "cluster_axis": 0,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
            "topology": ttnn.Topology.Ring,
            "num_links": 4,
        },
        pcc=0.999,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_all_reduce(mesh_device, case):
    """Every chip's result against torch."""
    check(mesh_device, ttnn.all_reduce, references.all_reduce, case)
