"""ttnn.matmul with every combination of shapes, types and placements that the model uses."""

import pytest
import ttnn

from ... import model_config as cfg
from . import references
from .harness import Case, Input, Resource, check

CASES = [
    # matmul.toml:18
    Case(
        name="model.layers.0.self_attn",
        used=["model.layers.0.self_attn"],
        args=[
            Input((1, 1, 32, 1280), ttnn.bfloat16, ttnn.TILE_LAYOUT, cfg.NORM_HIDDEN_STATES_MEMORY, (False, True)),
            Input((1, 1, 1280, 1280), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, cfg.QKV_PROJ_WEIGHT_MEMORY, (True, True)),
        ],
        kwargs={
            "dtype": ttnn.bfloat8_b,
            "program_config": cfg.QKV_PROJ_DECODE_PROGRAM,
            "memory_config": cfg.ATTENTION_QKV_MEMORY,
            "compute_kernel_config": cfg.COMPUTE_HIFI2,
            "global_cb": Resource("global_circular_buffer"),
            "sub_device_id": cfg.WORKERS,
        },
        pcc=0.999,
    ),
    # matmul.toml:18
    Case(
        name="model.layers.0.self_attn.o_proj",
        used=["model.layers.0.self_attn.o_proj"],
        args=[
            Input(
                (1, 1, 32, 1024),
                ttnn.bfloat16,
                ttnn.TILE_LAYOUT,
                cfg.ATTENTION_ATTN_OUTPUT_RESHARD_MEMORY,
                (True, False),
            ),
            Input((1, 1, 1024, 1280), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, cfg.O_PROJ_WEIGHT_MEMORY, (True, True)),
        ],
        kwargs={
            "dtype": ttnn.bfloat8_b,
            "program_config": cfg.O_PROJ_DECODE_PROGRAM,
            "memory_config": cfg.ATTENTION_O_MEMORY,
            "compute_kernel_config": cfg.COMPUTE_HIFI2,
            "global_cb": Resource("global_circular_buffer"),
            "sub_device_id": cfg.WORKERS,
        },
        pcc=0.999,
    ),
    # matmul.toml:18
    Case(
        name="model.layers.0.mlp.gate_proj",
        used=["model.layers.0.mlp.gate_proj", "model.layers.0.mlp.up_proj"],
        args=[
            Input((1, 1, 32, 5120), ttnn.bfloat16, ttnn.TILE_LAYOUT, cfg.MLP_HIDDEN_STATES_MEMORY, (False, False)),
            Input((1, 1, 5120, 800), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, cfg.GATE_PROJ_WEIGHT_MEMORY, (True, True)),
        ],
        kwargs={
            "dtype": ttnn.bfloat16,
            "program_config": cfg.GATE_PROJ_DECODE_PROGRAM,
            "memory_config": cfg.MLP_GATE_MEMORY,
            "compute_kernel_config": cfg.COMPUTE_HIFI2,
            "global_cb": Resource("global_circular_buffer"),
            "sub_device_id": cfg.WORKERS,
        },
        pcc=0.999,
    ),
    # matmul.toml:18
    Case(
        name="model.layers.0.mlp.down_proj",
        used=["model.layers.0.mlp.down_proj"],
        args=[
            Input(
                (1, 1, 32, 3200), ttnn.bfloat16, ttnn.TILE_LAYOUT, cfg.MLP_HIDDEN_STATES_GATHERED_MEMORY, (True, False)
            ),
            Input((1, 1, 3200, 1280), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, cfg.DOWN_PROJ_WEIGHT_MEMORY, (True, True)),
        ],
        kwargs={
            "dtype": ttnn.bfloat8_b,
            "program_config": cfg.DOWN_PROJ_DECODE_PROGRAM,
            "memory_config": cfg.MLP_DOWN_MEMORY,
            "compute_kernel_config": cfg.COMPUTE_HIFI2,
            "global_cb": Resource("global_circular_buffer"),
            "sub_device_id": cfg.WORKERS,
        },
        pcc=0.999,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_matmul(mesh_device, case):
    """Every chip's result against torch."""
    check(mesh_device, ttnn.matmul, references.matmul, case)
