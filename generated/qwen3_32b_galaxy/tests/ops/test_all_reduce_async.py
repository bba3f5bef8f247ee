"""ttnn.experimental.all_reduce_async with every combination of shapes, types and placements that the model uses."""

import pytest
import ttnn

from ... import model_config as cfg
from . import references
from .harness import Case, Input, Resource, check

CASES = [
    # collectives.toml:10
    Case(
        name="model.layers.0.self_attn.o_proj",
        used=["model.layers.0.mlp.down_proj", "model.layers.0.self_attn.o_proj"],
        args=[Input((1, 1, 32, 1280), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, cfg.ATTENTION_O_MEMORY, (True, True))],
        kwargs={
            "buffer_tensor": Resource(
                "persistent_buffer", ((1, 1, 32, 10240), ttnn.bfloat8_b, cfg.ATTENTION_BUFFER_2_MEMORY)
            ),
            "cluster_axis": 0,
            "mesh_device": Resource("mesh_device"),
            "multi_device_global_semaphore": Resource("global_semaphore"),
            "dtype": ttnn.bfloat16,
            "memory_config": cfg.ATTENTION_O_REDUCED_MEMORY,
            "topology": ttnn.Topology.Ring,
            "num_links": 4,
            "subdevice_id": cfg.WORKERS,
        },
        pcc=0.999,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_all_reduce_async(mesh_device, case):
    """Every chip's result against torch."""
    check(mesh_device, ttnn.experimental.all_reduce_async, references.all_reduce_async, case)
