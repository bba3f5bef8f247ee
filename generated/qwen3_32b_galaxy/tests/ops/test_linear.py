"""ttnn.linear with every combination of shapes, types and placements that the model uses."""

import pytest
import ttnn

from ... import model_config as cfg
from . import references
from .harness import Case, Input, check

CASES = [
    # matmul.toml:6
    Case(
        name="lm_head",
        used=["lm_head"],
        args=[
            Input(
                (1, 1, 32, 5120), ttnn.bfloat16, ttnn.TILE_LAYOUT, cfg.NORM_NORM_HIDDEN_STATES_MEMORY, (False, False)
            ),
            Input((1, 1, 5120, 4748), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, cfg.LM_HEAD_WEIGHT_MEMORY, (True, True)),
        ],
        kwargs={
            "dtype": ttnn.bfloat16,
            "program_config": cfg.LM_HEAD_DECODE_PROGRAM,
            "memory_config": cfg.LM_HEAD_MEMORY,
            "compute_kernel_config": cfg.COMPUTE_HIFI2,
        },
        pcc=0.999,
    ),
    # matmul.toml:69
    Case(
        name="model.layers.0.self_attn",
        used=["model.layers.0.self_attn"],
        args=[
            Input((1, 1, 128, 1280), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, True)),
            Input((1, 1, 1280, 1280), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, cfg.QKV_PROJ_WEIGHT_MEMORY, (True, True)),
        ],
        kwargs={
            "dtype": ttnn.bfloat16,
            "program_config": cfg.QKV_PROJ_SHORT_PREFILL_PROGRAM[128],
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
            "compute_kernel_config": cfg.COMPUTE_HIFI2,
        },
        pcc=0.999,
    ),
    # matmul.toml:69
    Case(
        name="model.layers.0.self_attn.o_proj",
        used=["model.layers.0.self_attn.o_proj"],
        args=[
            Input((1, 1, 128, 1024), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, False)),
            Input((1, 1, 1024, 1280), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, cfg.O_PROJ_WEIGHT_MEMORY, (True, True)),
        ],
        kwargs={
            "dtype": ttnn.bfloat16,
            "program_config": cfg.O_PROJ_SHORT_PREFILL_PROGRAM[128],
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
            "compute_kernel_config": cfg.COMPUTE_HIFI2,
        },
        pcc=0.999,
    ),
    # matmul.toml:69
    Case(
        name="model.layers.0.mlp.gate_proj",
        used=["model.layers.0.mlp.gate_proj", "model.layers.0.mlp.up_proj"],
        args=[
            Input((1, 1, 128, 5120), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)),
            Input((1, 1, 5120, 800), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, cfg.GATE_PROJ_WEIGHT_MEMORY, (True, True)),
        ],
        kwargs={
            "dtype": ttnn.bfloat16,
            "program_config": cfg.GATE_PROJ_SHORT_PREFILL_PROGRAM[128],
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
            "compute_kernel_config": cfg.COMPUTE_HIFI2,
        },
        pcc=0.999,
    ),
    # matmul.toml:69
    Case(
        name="model.layers.0.mlp.down_proj",
        used=["model.layers.0.mlp.down_proj"],
        args=[
            Input((1, 1, 128, 3200), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, False)),
            Input((1, 1, 3200, 1280), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, cfg.DOWN_PROJ_WEIGHT_MEMORY, (True, True)),
        ],
        kwargs={
            "dtype": ttnn.bfloat16,
            "program_config": cfg.DOWN_PROJ_SHORT_PREFILL_PROGRAM[128],
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
            "compute_kernel_config": cfg.COMPUTE_HIFI2,
        },
        pcc=0.999,
    ),
    # matmul.toml:69
    Case(
        name="lm_head'",
        used=["lm_head"],
        args=[
            Input((1, 1, 32, 5120), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)),
            Input((1, 1, 5120, 4748), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, cfg.LM_HEAD_WEIGHT_MEMORY, (True, True)),
        ],
        kwargs={
            "dtype": ttnn.bfloat16,
            "program_config": cfg.LM_HEAD_SHORT_PREFILL_PROGRAM,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
            "compute_kernel_config": cfg.COMPUTE_HIFI2,
        },
        pcc=0.999,
    ),
    # matmul.toml:69
    Case(
        name="model.layers.0.self_attn'",
        used=["model.layers.0.self_attn"],
        args=[
            Input((1, 1, 512, 1280), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, True)),
            Input((1, 1, 1280, 1280), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, cfg.QKV_PROJ_WEIGHT_MEMORY, (True, True)),
        ],
        kwargs={
            "dtype": ttnn.bfloat16,
            "program_config": cfg.QKV_PROJ_SHORT_PREFILL_PROGRAM[512],
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
            "compute_kernel_config": cfg.COMPUTE_HIFI2,
        },
        pcc=0.999,
    ),
    # matmul.toml:69
    Case(
        name="model.layers.0.self_attn.o_proj'",
        used=["model.layers.0.self_attn.o_proj"],
        args=[
            Input((1, 1, 512, 1024), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, False)),
            Input((1, 1, 1024, 1280), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, cfg.O_PROJ_WEIGHT_MEMORY, (True, True)),
        ],
        kwargs={
            "dtype": ttnn.bfloat16,
            "program_config": cfg.O_PROJ_SHORT_PREFILL_PROGRAM[512],
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
            "compute_kernel_config": cfg.COMPUTE_HIFI2,
        },
        pcc=0.999,
    ),
    # matmul.toml:69
    Case(
        name="model.layers.0.mlp.gate_proj'",
        used=["model.layers.0.mlp.gate_proj", "model.layers.0.mlp.up_proj"],
        args=[
            Input((1, 1, 512, 5120), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)),
            Input((1, 1, 5120, 800), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, cfg.GATE_PROJ_WEIGHT_MEMORY, (True, True)),
        ],
        kwargs={
            "dtype": ttnn.bfloat16,
            "program_config": cfg.GATE_PROJ_SHORT_PREFILL_PROGRAM[512],
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
            "compute_kernel_config": cfg.COMPUTE_HIFI2,
        },
        pcc=0.999,
    ),
    # matmul.toml:69
    Case(
        name="model.layers.0.mlp.down_proj'",
        used=["model.layers.0.mlp.down_proj"],
        args=[
            Input((1, 1, 512, 3200), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, False)),
            Input((1, 1, 3200, 1280), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, cfg.DOWN_PROJ_WEIGHT_MEMORY, (True, True)),
        ],
        kwargs={
            "dtype": ttnn.bfloat16,
            "program_config": cfg.DOWN_PROJ_SHORT_PREFILL_PROGRAM[512],
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
            "compute_kernel_config": cfg.COMPUTE_HIFI2,
        },
        pcc=0.999,
    ),
    # matmul.toml:69
    Case(
        name="model.layers.0.self_attn''",
        used=["model.layers.0.self_attn"],
        args=[
            Input((1, 1, 2048, 1280), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, True)),
            Input((1, 1, 1280, 1280), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, cfg.QKV_PROJ_WEIGHT_MEMORY, (True, True)),
        ],
        kwargs={
            "dtype": ttnn.bfloat16,
            "program_config": cfg.QKV_PROJ_PREFILL_PROGRAM,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
            "compute_kernel_config": cfg.COMPUTE_HIFI2,
        },
        pcc=0.999,
    ),
    # matmul.toml:69
    Case(
        name="model.layers.0.self_attn.o_proj''",
        used=["model.layers.0.self_attn.o_proj"],
        args=[
            Input((1, 1, 2048, 1024), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, False)),
            Input((1, 1, 1024, 1280), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, cfg.O_PROJ_WEIGHT_MEMORY, (True, True)),
        ],
        kwargs={
            "dtype": ttnn.bfloat16,
            "program_config": cfg.O_PROJ_PREFILL_PROGRAM,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
            "compute_kernel_config": cfg.COMPUTE_HIFI2,
        },
        pcc=0.999,
    ),
    # matmul.toml:69
    Case(
        name="model.layers.0.mlp.gate_proj''",
        used=["model.layers.0.mlp.gate_proj", "model.layers.0.mlp.up_proj"],
        args=[
            Input((1, 1, 2048, 5120), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)),
            Input((1, 1, 5120, 800), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, cfg.GATE_PROJ_WEIGHT_MEMORY, (True, True)),
        ],
        kwargs={
            "dtype": ttnn.bfloat16,
            "program_config": cfg.GATE_PROJ_PREFILL_PROGRAM,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
            "compute_kernel_config": cfg.COMPUTE_HIFI2,
        },
        pcc=0.999,
    ),
    # matmul.toml:69
    Case(
        name="model.layers.0.mlp.down_proj''",
        used=["model.layers.0.mlp.down_proj"],
        args=[
            Input((1, 1, 2048, 3200), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, False)),
            Input((1, 1, 3200, 1280), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, cfg.DOWN_PROJ_WEIGHT_MEMORY, (True, True)),
        ],
        kwargs={
            "dtype": ttnn.bfloat16,
            "program_config": cfg.DOWN_PROJ_PREFILL_PROGRAM,
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
