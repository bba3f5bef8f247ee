"""ttnn.rms_norm_pre_all_gather with every combination of shapes, types and placements that the model uses."""

import pytest
import ttnn

from ... import model_config as cfg
from . import references
from .harness import Case, Input, check

CASES = [
    # norm.toml:75
    Case(
        name="model.layers.0.input_layernorm",
        used=["model.layers.0.input_layernorm"],
        args=[Input((1, 1, 128, 1280), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, True))],
        kwargs={
            "dtype": ttnn.bfloat16,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
            "compute_kernel_config": cfg.COMPUTE_HIFI3,
        },
        pcc=0.999,
    ),
    # norm.toml:75
    Case(
        name="model.layers.0.input_layernorm'",
        used=["model.layers.0.input_layernorm"],
        args=[Input((1, 1, 512, 1280), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, True))],
        kwargs={
            "dtype": ttnn.bfloat16,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
            "compute_kernel_config": cfg.COMPUTE_HIFI3,
        },
        pcc=0.999,
    ),
    # norm.toml:75
    Case(
        name="model.layers.0.input_layernorm''",
        used=["model.layers.0.input_layernorm"],
        args=[Input((1, 1, 256, 1280), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, True))],
        kwargs={
            "dtype": ttnn.bfloat16,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
            "compute_kernel_config": cfg.COMPUTE_HIFI3,
        },
        pcc=0.999,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_rms_norm_pre_all_gather(mesh_device, case):
    """Every chip's result against torch."""
    check(mesh_device, ttnn.rms_norm_pre_all_gather, references.rms_norm_pre_all_gather, case)
