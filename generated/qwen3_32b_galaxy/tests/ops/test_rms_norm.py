"""ttnn.rms_norm with every combination of shapes, types and placements that the model uses."""

import pytest
import ttnn

from ... import model_config as cfg
from . import references
from .harness import Case, Input, check

CASES = [
    # norm.toml:63
    Case(
        name="model.layers.0.self_attn.q_norm",
        used=["model.layers.0.self_attn.q_norm"],
        args=[
            Input(
                (1, 8, 8, 128),
                ttnn.bfloat16,
                ttnn.TILE_LAYOUT,
                cfg.ATTENTION_QUERY_MEMORY,
                (True, True),
                values="small_rows",
            )
        ],
        kwargs={
            "epsilon": cfg.NORM_EPS,
            "weight": Input((1, 1, 1, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)),
            "program_config": cfg.Q_NORM_DECODE_PROGRAM,
            "memory_config": cfg.ATTENTION_QUERY_MEMORY,
            "compute_kernel_config": cfg.COMPUTE_HIFI3,
        },
        pcc=0.999,
    ),
    # norm.toml:63
    Case(
        name="model.layers.0.self_attn.k_norm",
        used=["model.layers.0.self_attn.k_norm"],
        args=[
            Input(
                (1, 8, 1, 128),
                ttnn.bfloat16,
                ttnn.TILE_LAYOUT,
                cfg.ATTENTION_KEY_MEMORY,
                (True, True),
                values="small_rows",
            )
        ],
        kwargs={
            "epsilon": cfg.NORM_EPS,
            "weight": Input((1, 1, 1, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)),
            "program_config": cfg.K_NORM_DECODE_PROGRAM,
            "memory_config": cfg.ATTENTION_KEY_MEMORY,
            "compute_kernel_config": cfg.COMPUTE_HIFI3,
        },
        pcc=0.999,
    ),
    # norm.toml:45
    Case(
        name="model.layers.0.post_attention_layernorm",
        used=["model.layers.0.post_attention_layernorm", "model.norm"],
        args=[
            Input(
                (1, 1, 32, 5120),
                ttnn.bfloat16,
                ttnn.TILE_LAYOUT,
                cfg.NORM_GATHERED_HIDDEN_STATES_GATHERED_MEMORY,
                (False, False),
                values="small_rows",
            )
        ],
        kwargs={
            "epsilon": cfg.NORM_EPS,
            "weight": Input(
                (1, 1, 160, 32), ttnn.bfloat16, ttnn.ROW_MAJOR_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)
            ),
            "program_config": cfg.NORM_GATHERED_DECODE_PROGRAM,
            "memory_config": cfg.NORM_GATHERED_HIDDEN_STATES_MEMORY,
            "compute_kernel_config": cfg.COMPUTE_HIFI3,
        },
        pcc=0.999,
    ),
    # norm.toml:103
    Case(
        name="model.layers.0.post_attention_layernorm'",
        used=["model.layers.0.post_attention_layernorm"],
        args=[
            Input(
                (1, 1, 128, 5120),
                ttnn.bfloat16,
                ttnn.TILE_LAYOUT,
                ttnn.DRAM_MEMORY_CONFIG,
                (False, False),
                values="small_rows",
            )
        ],
        kwargs={
            "epsilon": cfg.NORM_EPS,
            "weight": Input((1, 1, 1, 5120), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)),
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
            "compute_kernel_config": cfg.COMPUTE_HIFI3,
        },
        pcc=0.999,
    ),
    # norm.toml:103
    Case(
        name="model.norm",
        used=["model.norm"],
        args=[
            Input(
                (1, 1, 32, 5120),
                ttnn.bfloat16,
                ttnn.TILE_LAYOUT,
                ttnn.DRAM_MEMORY_CONFIG,
                (False, False),
                values="small_rows",
            )
        ],
        kwargs={
            "epsilon": cfg.NORM_EPS,
            "weight": Input((1, 1, 1, 5120), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)),
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
            "compute_kernel_config": cfg.COMPUTE_HIFI3,
        },
        pcc=0.999,
    ),
    # norm.toml:103
    Case(
        name="model.layers.0.post_attention_layernorm''",
        used=["model.layers.0.post_attention_layernorm"],
        args=[
            Input(
                (1, 1, 512, 5120),
                ttnn.bfloat16,
                ttnn.TILE_LAYOUT,
                ttnn.DRAM_MEMORY_CONFIG,
                (False, False),
                values="small_rows",
            )
        ],
        kwargs={
            "epsilon": cfg.NORM_EPS,
            "weight": Input((1, 1, 1, 5120), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)),
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
            "compute_kernel_config": cfg.COMPUTE_HIFI3,
        },
        pcc=0.999,
    ),
    # norm.toml:103
    Case(
        name="model.layers.0.post_attention_layernorm'''",
        used=["model.layers.0.post_attention_layernorm"],
        args=[
            Input(
                (1, 1, 256, 5120),
                ttnn.bfloat16,
                ttnn.TILE_LAYOUT,
                ttnn.DRAM_MEMORY_CONFIG,
                (True, False),
                values="small_rows",
            )
        ],
        kwargs={
            "epsilon": cfg.NORM_EPS,
            "weight": Input((1, 1, 1, 5120), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)),
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
            "compute_kernel_config": cfg.COMPUTE_HIFI3,
        },
        pcc=0.999,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_rms_norm(mesh_device, case):
    """Every chip's result against torch."""
    check(mesh_device, ttnn.rms_norm, references.rms_norm, case)
