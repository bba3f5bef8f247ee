"""ttnn.experimental.all_reduce_create_qkv_heads with every combination of shapes, types and placements that the model uses."""

import pytest
import ttnn

from ... import model_config as cfg
from . import references
from .harness import Case, Input, Resource, check

CASES = [
    # attention.toml:16
    Case(
        name="model.layers.0.self_attn",
        used=["model.layers.0.self_attn"],
        args=[Input((1, 1, 32, 1280), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, cfg.ATTENTION_QKV_MEMORY, (True, True))],
        kwargs={
            "buffer_tensor": Resource(
                "persistent_buffer", ((1, 1, 32, 5120), ttnn.bfloat8_b, cfg.ATTENTION_BUFFER_MEMORY)
            ),
            "batch_offset": Input(
                (1, 1), ttnn.int32, ttnn.ROW_MAJOR_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, True), values="first_user"
            ),
            "cluster_axis": 1,
            "mesh_device": Resource("mesh_device"),
            "multi_device_global_semaphore": Resource("global_semaphore"),
            "num_heads": cfg.NUM_HEADS,
            "num_kv_heads": cfg.NUM_KV_HEADS,
            "slice_size": 8,
            "memory_config": cfg.ATTENTION_QKV_REDUCED_MEMORY,
            "final_memory_config": cfg.ATTENTION_QKV_FINAL_MEMORY,
            "topology": ttnn.Topology.Ring,
            "num_links": 4,
            "dtype": ttnn.bfloat16,
            "subdevice_id": cfg.WORKERS,
        },
        pcc=0.999,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_all_reduce_create_qkv_heads(mesh_device, case):
    """Every chip's result against torch."""
    check(mesh_device, ttnn.experimental.all_reduce_create_qkv_heads, references.all_reduce_create_qkv_heads, case)
