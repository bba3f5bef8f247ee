"""ttnn.experimental.all_gather_async with every combination of shapes, types and placements that the model uses."""

import pytest
import ttnn

from ... import model_config as cfg
from . import references
from .harness import Case, Input, Resource, check

CASES = [
    # collectives.toml:54
    Case(
        name="model.layers.0.self_attn",
        used=["model.layers.0.self_attn"],
        args=[
            Input((1, 8, 8, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, cfg.ATTENTION_ATTN_OUTPUT_MEMORY, (True, True)),
            1,
        ],
        kwargs={
            "cluster_axis": 1,
            "mesh_device": Resource("mesh_device"),
            "topology": ttnn.Topology.Ring,
            "multi_device_global_semaphore": Resource("two_semaphores"),
            "persistent_output_tensor": Resource(
                "persistent_output", ((1, 32, 8, 128), ttnn.bfloat16, cfg.ATTENTION_GATHERED_MEMORY)
            ),
            "memory_config": cfg.ATTENTION_ATTN_OUTPUT_GATHERED_MEMORY,
            "num_links": 4,
            "subdevice_id": cfg.WORKERS,
        },
        pcc=0.999,
    ),
    # collectives.toml:35
    Case(
        name="model.layers.0.post_attention_layernorm",
        used=["model.layers.0.post_attention_layernorm"],
        args=[Input((1, 1, 32, 1280), ttnn.bfloat16, ttnn.TILE_LAYOUT, cfg.RESIDUAL_MEMORY, (False, True)), 3],
        kwargs={
            "cluster_axis": 1,
            "mesh_device": Resource("mesh_device"),
            "topology": ttnn.Topology.Ring,
            "multi_device_global_semaphore": Resource("two_semaphores"),
            "persistent_output_tensor": Resource(
                "persistent_output", ((1, 1, 32, 5120), ttnn.bfloat16, cfg.NORM_GATHERED_GATHERED_MEMORY)
            ),
            "memory_config": cfg.NORM_GATHERED_HIDDEN_STATES_GATHERED_MEMORY,
            "num_links": 4,
            "subdevice_id": cfg.WORKERS,
        },
        pcc=0.999,
    ),
    # collectives.toml:35
    Case(
        name="model.layers.0.mlp.down_proj",
        used=["model.layers.0.mlp.down_proj"],
        args=[
            Input((1, 1, 32, 800), ttnn.bfloat16, ttnn.TILE_LAYOUT, cfg.MLP_HIDDEN_STATES_GLU_MEMORY, (True, True)),
            3,
        ],
        kwargs={
            "cluster_axis": 1,
            "mesh_device": Resource("mesh_device"),
            "topology": ttnn.Topology.Ring,
            "multi_device_global_semaphore": Resource("two_semaphores"),
            "persistent_output_tensor": Resource(
                "persistent_output", ((1, 1, 32, 3200), ttnn.bfloat16, cfg.MLP_GATHERED_MEMORY)
            ),
            "memory_config": cfg.MLP_HIDDEN_STATES_GATHERED_MEMORY,
            "num_links": 4,
            "subdevice_id": cfg.WORKERS,
        },
        pcc=0.999,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_all_gather_async(mesh_device, case):
    """Every chip's result against torch."""
    check(mesh_device, ttnn.experimental.all_gather_async, references.all_gather_async, case)
