"""ttnn.experimental.dit_fused_distributed_rmsnorm with every combination of shapes, types and placements that the model uses."""

import pytest
import ttnn

from ... import model_config as cfg
from . import references
from .harness import Case, Input, Resource, check

CASES = [
    # attention.toml:171
    Case(
        name="model.layers.0.self_attn.q_norm",
        used=["model.layers.0.self_attn.q_norm"],
        args=[
            Input((1, 8, 128, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, False)),
            None,
            Resource("mesh_device"),
            [],
        ],
        kwargs={
            "epsilon": cfg.NORM_EPS,
            "weight": Input((1, 1, 1, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)),
            "transformation_mat": Resource("quarter_turn"),
            "rope_cos": Input(
                (1, 1, 128, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)
            ),
            "rope_sin": Input(
                (1, 1, 128, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)
            ),
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
            "compute_kernel_config": cfg.COMPUTE_HIFI3,
        },
        pcc=0.999,
    ),
    # attention.toml:171
    Case(
        name="model.layers.0.self_attn.k_norm",
        used=["model.layers.0.self_attn.k_norm"],
        args=[
            Input((1, 1, 128, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, False)),
            None,
            Resource("mesh_device"),
            [],
        ],
        kwargs={
            "epsilon": cfg.NORM_EPS,
            "weight": Input((1, 1, 1, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)),
            "transformation_mat": Resource("quarter_turn"),
            "rope_cos": Input(
                (1, 1, 128, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)
            ),
            "rope_sin": Input(
                (1, 1, 128, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)
            ),
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
            "compute_kernel_config": cfg.COMPUTE_HIFI3,
        },
        pcc=0.999,
    ),
    # attention.toml:171
    Case(
        name="model.layers.0.self_attn.q_norm'",
        used=["model.layers.0.self_attn.q_norm"],
        args=[
            Input((1, 8, 512, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, False)),
            None,
            Resource("mesh_device"),
            [],
        ],
        kwargs={
            "epsilon": cfg.NORM_EPS,
            "weight": Input((1, 1, 1, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)),
            "transformation_mat": Resource("quarter_turn"),
            "rope_cos": Input(
                (1, 1, 512, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)
            ),
            "rope_sin": Input(
                (1, 1, 512, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)
            ),
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
            "compute_kernel_config": cfg.COMPUTE_HIFI3,
        },
        pcc=0.999,
    ),
    # attention.toml:171
    Case(
        name="model.layers.0.self_attn.k_norm'",
        used=["model.layers.0.self_attn.k_norm"],
        args=[
            Input((1, 1, 512, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, False)),
            None,
            Resource("mesh_device"),
            [],
        ],
        kwargs={
            "epsilon": cfg.NORM_EPS,
            "weight": Input((1, 1, 1, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)),
            "transformation_mat": Resource("quarter_turn"),
            "rope_cos": Input(
                (1, 1, 512, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)
            ),
            "rope_sin": Input(
                (1, 1, 512, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)
            ),
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
            "compute_kernel_config": cfg.COMPUTE_HIFI3,
        },
        pcc=0.999,
    ),
    # attention.toml:171
    Case(
        name="model.layers.0.self_attn.q_norm''",
        used=["model.layers.0.self_attn.q_norm"],
        args=[
            Input((1, 8, 512, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, True)),
            None,
            Resource("mesh_device"),
            [],
        ],
        kwargs={
            "epsilon": cfg.NORM_EPS,
            "weight": Input((1, 1, 1, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)),
            "transformation_mat": Resource("quarter_turn"),
            "rope_cos": Input(
                (1, 1, 512, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, True)
            ),
            "rope_sin": Input(
                (1, 1, 512, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, True)
            ),
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
            "compute_kernel_config": cfg.COMPUTE_HIFI3,
        },
        pcc=0.999,
    ),
    # attention.toml:171
    Case(
        name="model.layers.0.self_attn.k_norm''",
        used=["model.layers.0.self_attn.k_norm"],
        args=[
            Input((1, 1, 512, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, True)),
            None,
            Resource("mesh_device"),
            [],
        ],
        kwargs={
            "epsilon": cfg.NORM_EPS,
            "weight": Input((1, 1, 1, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)),
            "transformation_mat": Resource("quarter_turn"),
            "rope_cos": Input(
                (1, 1, 512, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, True)
            ),
            "rope_sin": Input(
                (1, 1, 512, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, True)
            ),
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
            "compute_kernel_config": cfg.COMPUTE_HIFI3,
        },
        pcc=0.999,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_dit_fused_distributed_rmsnorm(mesh_device, case):
    """Every chip's result against torch."""
    check(mesh_device, ttnn.experimental.dit_fused_distributed_rmsnorm, references.dit_fused_distributed_rmsnorm, case)
