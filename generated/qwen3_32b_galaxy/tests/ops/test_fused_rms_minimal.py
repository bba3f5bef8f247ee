"""ttnn.fused_rms_minimal with every combination of shapes, types and placements that the model uses."""

import pytest
import ttnn

from ... import model_config as cfg
from . import references
from .harness import Case, Input, Resource, check

CASES = [
    # norm.toml:23
    Case(
        name="model.layers.0.input_layernorm",
        used=["model.layers.0.input_layernorm"],
        args=[
            Input(
                (1, 1, 32, 1280), ttnn.bfloat16, ttnn.TILE_LAYOUT, cfg.EMBED_TOKENS_HIDDEN_STATES_MEMORY, (False, True)
            )
        ],
        kwargs={
            "program_config": cfg.NORM_DECODE_PROGRAM,
            "cluster_axis": 1,
            "mesh_device": Resource("mesh_device"),
            "global_semaphore": Resource("global_semaphore"),
            "topology": ttnn.Topology.Ring,
            "num_links": 1,
            "epsilon": cfg.NORM_EPS,
            "weight": Input(
                (1, 1, 40, 32), ttnn.bfloat16, ttnn.ROW_MAJOR_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, True)
            ),
            "stats": Resource("persistent_buffer", ((1, 1, 32, 128), ttnn.float32, cfg.NORM_STATS_MEMORY)),
            "memory_config": cfg.NORM_HIDDEN_STATES_MEMORY,
            "compute_kernel_config": cfg.COMPUTE_HIFI3,
            "subdevice_id": cfg.WORKERS,
        },
        pcc=0.999,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_fused_rms_minimal(mesh_device, case):
    """Every chip's result against torch."""
    check(mesh_device, ttnn.fused_rms_minimal, references.fused_rms_minimal, case)
