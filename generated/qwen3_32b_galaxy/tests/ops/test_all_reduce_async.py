"""ttnn.experimental.all_reduce_async with every combination of shapes, types and placements that the model uses."""

import pytest
import ttnn

from ... import model_config as cfg
from . import references
from .harness import Case, Input, Resource, check

CASES = [
    # collectives.toml:9
    Case(
        name="model.layers.0.self_attn.o_proj",
        used=["model.layers.0.self_attn.o_proj"],
        args=[Input((1, 1, 32, 1280), ttnn.bfloat16, ttnn.TILE_LAYOUT, cfg.ATTENTION_O_MEMORY, (True, True))],
        kwargs={
            "buffer_tensor": Resource(
                "persistent_buffer", ((1, 1, 32, 10240), ttnn.bfloat16, cfg.ATTENTION_BUFFER_2_MEMORY)
            ),
            "cluster_axis": 0,
            "mesh_device": Resource("mesh_device"),
            "multi_device_global_semaphore": Resource("global_semaphore"),
            "memory_config": cfg.ATTENTION_O_REDUCED_MEMORY,
            "topology": ttnn.Topology.Ring,
            "num_links": 4,
        },
        pcc=0.999,
    ),
    # collectives.toml:9
    Case(
        name="model.layers.0.mlp.down_proj",
        used=["model.layers.0.mlp.down_proj"],
        args=[Input((1, 1, 32, 1280), ttnn.bfloat16, ttnn.TILE_LAYOUT, cfg.MLP_DOWN_MEMORY, (True, True))],
        kwargs={
            "buffer_tensor": Resource("persistent_buffer", ((1, 1, 32, 10240), ttnn.bfloat16, cfg.MLP_BUFFER_MEMORY)),
            "cluster_axis": 0,
            "mesh_device": Resource("mesh_device"),
            "multi_device_global_semaphore": Resource("global_semaphore"),
            "memory_config": cfg.MLP_DOWN_REDUCED_MEMORY,
            "topology": ttnn.Topology.Ring,
            "num_links": 4,
        },
        pcc=0.999,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_all_reduce_async(mesh_device, case):
    """Every chip's result against torch."""
    check(mesh_device, ttnn.experimental.all_reduce_async, references.all_reduce_async, case)
