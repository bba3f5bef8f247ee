"""ttnn.multiply with every combination of shapes, types and placements that the model uses."""

import pytest
import ttnn

from ... import model_config as cfg
from . import references
from .harness import Case, Input, check

CASES = [
    # elementwise.toml:10
    Case(
        name="model.layers.0.mlp",
        used=["model.layers.0.mlp"],
        args=[
            Input((1, 1, 32, 800), ttnn.bfloat16, ttnn.TILE_LAYOUT, cfg.MLP_GATE_MEMORY, (True, True)),
            Input((1, 1, 32, 800), ttnn.bfloat16, ttnn.TILE_LAYOUT, cfg.MLP_UP_MEMORY, (True, True)),
        ],
        kwargs={
            "input_tensor_a_activations": [ttnn.UnaryOpType.SILU],
            "memory_config": cfg.MLP_HIDDEN_STATES_GLU_MEMORY,
        },
        pcc=0.999,
    ),
    # elementwise.toml:10
    Case(
        name="model.layers.0.mlp'",
        used=["model.layers.0.mlp"],
        args=[
            Input((1, 1, 128, 800), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, True)),
            Input((1, 1, 128, 800), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, True)),
        ],
        kwargs={
            "input_tensor_a_activations": [ttnn.UnaryOpType.SILU],
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # elementwise.toml:10
    Case(
        name="model.layers.0.mlp''",
        used=["model.layers.0.mlp"],
        args=[
            Input((1, 1, 512, 800), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, True)),
            Input((1, 1, 512, 800), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, True)),
        ],
        kwargs={
            "input_tensor_a_activations": [ttnn.UnaryOpType.SILU],
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # elementwise.toml:10
    Case(
        name="model.layers.0.mlp'''",
        used=["model.layers.0.mlp"],
        args=[
            Input((1, 1, 2048, 800), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, True)),
            Input((1, 1, 2048, 800), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, True)),
        ],
        kwargs={
            "input_tensor_a_activations": [ttnn.UnaryOpType.SILU],
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_multiply(mesh_device, case):
    """Every chip's result against torch."""
    check(mesh_device, ttnn.multiply, references.multiply, case)
