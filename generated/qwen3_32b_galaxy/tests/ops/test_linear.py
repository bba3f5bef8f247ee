"""ttnn.linear with every combination of shapes, types and placements that the model uses."""

import pytest
import ttnn

from ... import model_config as cfg
from . import references
from .harness import Case, Input, check

CASES = [
    # matmul.toml:6
    Case(
        name="model.layers.0.self_attn",
        used=["model.layers.0.self_attn"],
        args=[
            Input((1, 1, 32, 1280), ttnn.bfloat16, ttnn.TILE_LAYOUT, cfg.WIDTH_SHARDED_1280_ON_5X4, (False, True)),
            Input((1, 1, 1280, 1280), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, cfg.DRAM_1280X1536, (True, True)),
        ],
        kwargs={
            "dtype": ttnn.bfloat16,
            "program_config": cfg.LINEAR_1280X1280,
            "memory_config": cfg.WIDTH_SHARDED_1280_ON_8X2_4X1,
            "compute_kernel_config": cfg.COMPUTE_HIFI2,
        },
        pcc=0.999,
    ),
    # matmul.toml:6
    Case(
        name="model.layers.0.self_attn.o_proj",
        used=["model.layers.0.self_attn.o_proj"],
        args=[
            Input((1, 1, 32, 1024), ttnn.bfloat16, ttnn.TILE_LAYOUT, cfg.WIDTH_SHARDED_1024_ON_8X1, (True, False)),
            Input((1, 1, 1024, 1280), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, cfg.DRAM_1024X1536, (True, True)),
        ],
        kwargs={
            "dtype": ttnn.bfloat16,
            "program_config": cfg.LINEAR_1024X1280,
            "memory_config": cfg.WIDTH_SHARDED_1280_ON_8X1,
            "compute_kernel_config": cfg.COMPUTE_HIFI2,
        },
        pcc=0.999,
    ),
    # matmul.toml:6
    Case(
        name="model.layers.0.mlp.gate_proj",
        used=["model.layers.0.mlp.gate_proj", "model.layers.0.mlp.up_proj"],
        args=[
            Input((1, 1, 32, 5120), ttnn.bfloat16, ttnn.TILE_LAYOUT, cfg.WIDTH_SHARDED_5120_ON_8X4, (False, False)),
            Input((1, 1, 5120, 800), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, cfg.DRAM_5120X1152, (True, True)),
        ],
        kwargs={
            "dtype": ttnn.bfloat16,
            "program_config": cfg.LINEAR_5120X800,
            "memory_config": cfg.WIDTH_SHARDED_800_ON_8X3_1X1,
            "compute_kernel_config": cfg.COMPUTE_HIFI2,
        },
        pcc=0.999,
    ),
    # matmul.toml:6
    Case(
        name="model.layers.0.mlp.down_proj",
        used=["model.layers.0.mlp.down_proj"],
        args=[
            Input((1, 1, 32, 800), ttnn.bfloat16, ttnn.TILE_LAYOUT, cfg.WIDTH_SHARDED_800_ON_8X3_1X1, (True, True)),
            Input((1, 1, 800, 5120), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, cfg.DRAM_800X5376, (True, True)),
        ],
        kwargs={
            "dtype": ttnn.bfloat16,
            "program_config": cfg.LINEAR_800X5120,
            "memory_config": cfg.WIDTH_SHARDED_5152_ON_8X2_7X1,
            "compute_kernel_config": cfg.COMPUTE_HIFI2,
        },
        pcc=0.999,
    ),
    # matmul.toml:6
    Case(
        name="lm_head",
        used=["lm_head"],
        args=[
            Input((1, 1, 32, 5120), ttnn.bfloat16, ttnn.TILE_LAYOUT, cfg.WIDTH_SHARDED_5120_ON_8X4, (False, False)),
            Input((1, 1, 5120, 4748), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, cfg.DRAM_5120X4992, (True, True)),
        ],
        kwargs={
            "dtype": ttnn.bfloat16,
            "program_config": cfg.LINEAR_5120X4748,
            "memory_config": cfg.WIDTH_SHARDED_4800_ON_8X3_6X1,
            "compute_kernel_config": cfg.COMPUTE_HIFI2,
        },
        pcc=0.999,
    ),
    # matmul.toml:42
    Case(
        name="model.layers.0.self_attn'",
        used=["model.layers.0.self_attn"],
        args=[
            Input((1, 1, 128, 1280), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, True)),
            Input((1, 1, 1280, 1280), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, cfg.DRAM_1280X1536, (True, True)),
        ],
        kwargs={
            "dtype": ttnn.bfloat16,
            "program_config": cfg.PREFILL_LINEAR_1280X1280[128],
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
            "compute_kernel_config": cfg.COMPUTE_HIFI2,
        },
        pcc=0.999,
    ),
    # matmul.toml:42
    Case(
        name="model.layers.0.self_attn.o_proj'",
        used=["model.layers.0.self_attn.o_proj"],
        args=[
            Input((1, 1, 128, 1024), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, False)),
            Input((1, 1, 1024, 1280), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, cfg.DRAM_1024X1536, (True, True)),
        ],
        kwargs={
            "dtype": ttnn.bfloat16,
            "program_config": cfg.PREFILL_LINEAR_1280X1280[128],
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
            "compute_kernel_config": cfg.COMPUTE_HIFI2,
        },
        pcc=0.999,
    ),
    # matmul.toml:42
    Case(
        name="model.layers.0.mlp.gate_proj'",
        used=["model.layers.0.mlp.gate_proj", "model.layers.0.mlp.up_proj"],
        args=[
            Input((1, 1, 128, 5120), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)),
            Input((1, 1, 5120, 800), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, cfg.DRAM_5120X1152, (True, True)),
        ],
        kwargs={
            "dtype": ttnn.bfloat16,
            "program_config": cfg.PREFILL_LINEAR_5120X800[128],
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
            "compute_kernel_config": cfg.COMPUTE_HIFI2,
        },
        pcc=0.999,
    ),
    # matmul.toml:42
    Case(
        name="model.layers.0.mlp.down_proj'",
        used=["model.layers.0.mlp.down_proj"],
        args=[
            Input((1, 1, 128, 800), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, True)),
            Input((1, 1, 800, 5120), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, cfg.DRAM_800X5376, (True, True)),
        ],
        kwargs={
            "dtype": ttnn.bfloat16,
            "program_config": cfg.PREFILL_LINEAR_800X5120[128],
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
            "compute_kernel_config": cfg.COMPUTE_HIFI2,
        },
        pcc=0.999,
    ),
    # matmul.toml:42
    Case(
        name="lm_head'",
        used=["lm_head"],
        args=[
            Input((1, 1, 32, 5120), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)),
            Input((1, 1, 5120, 4748), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, cfg.DRAM_5120X4992, (True, True)),
        ],
        kwargs={
            "dtype": ttnn.bfloat16,
            "program_config": cfg.PREFILL_LINEAR_5120X4748,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
            "compute_kernel_config": cfg.COMPUTE_HIFI2,
        },
        pcc=0.999,
    ),
    # matmul.toml:42
    Case(
        name="model.layers.0.self_attn''",
        used=["model.layers.0.self_attn"],
        args=[
            Input((1, 1, 2048, 1280), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, True)),
            Input((1, 1, 1280, 1280), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, cfg.DRAM_1280X1536, (True, True)),
        ],
        kwargs={
            "dtype": ttnn.bfloat16,
            "program_config": cfg.PREFILL_LINEAR_1280X1280[2048],
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
            "compute_kernel_config": cfg.COMPUTE_HIFI2,
        },
        pcc=0.999,
    ),
    # matmul.toml:42
    Case(
        name="model.layers.0.self_attn.o_proj''",
        used=["model.layers.0.self_attn.o_proj"],
        args=[
            Input((1, 1, 2048, 1024), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, False)),
            Input((1, 1, 1024, 1280), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, cfg.DRAM_1024X1536, (True, True)),
        ],
        kwargs={
            "dtype": ttnn.bfloat16,
            "program_config": cfg.PREFILL_LINEAR_1280X1280[2048],
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
            "compute_kernel_config": cfg.COMPUTE_HIFI2,
        },
        pcc=0.999,
    ),
    # matmul.toml:42
    Case(
        name="model.layers.0.mlp.gate_proj''",
        used=["model.layers.0.mlp.gate_proj", "model.layers.0.mlp.up_proj"],
        args=[
            Input((1, 1, 2048, 5120), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)),
            Input((1, 1, 5120, 800), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, cfg.DRAM_5120X1152, (True, True)),
        ],
        kwargs={
            "dtype": ttnn.bfloat16,
            "program_config": cfg.PREFILL_LINEAR_5120X800[2048],
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
            "compute_kernel_config": cfg.COMPUTE_HIFI2,
        },
        pcc=0.999,
    ),
    # matmul.toml:42
    Case(
        name="model.layers.0.mlp.down_proj''",
        used=["model.layers.0.mlp.down_proj"],
        args=[
            Input((1, 1, 2048, 800), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, True)),
            Input((1, 1, 800, 5120), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, cfg.DRAM_800X5376, (True, True)),
        ],
        kwargs={
            "dtype": ttnn.bfloat16,
            "program_config": cfg.PREFILL_LINEAR_800X5120[2048],
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
            "compute_kernel_config": cfg.COMPUTE_HIFI2,
        },
        pcc=0.999,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_linear(mesh_device, case):
    """Every chip's result against torch."""
    check(mesh_device, ttnn.linear, references.linear, case)
