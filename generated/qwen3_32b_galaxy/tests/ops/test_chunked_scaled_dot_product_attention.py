"""ttnn.transformer.chunked_scaled_dot_product_attention with every combination of shapes, types and placements that the model uses."""

import pytest
import ttnn

from ... import model_config as cfg
from . import references
from .harness import Case, Input, check

CASES = [
    # attention.toml:181
    Case(
        name="model.layers.0.self_attn",
        used=["model.layers.0.self_attn"],
        args=[
            Input((1, 8, 128, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, False)),
            Input((576, 1, 64, 128), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, True)),
            Input((576, 1, 64, 128), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, True)),
            Input(
                (1, 64),
                ttnn.int32,
                ttnn.ROW_MAJOR_LAYOUT,
                ttnn.DRAM_MEMORY_CONFIG,
                (False, True),
                values="page_table",
                high=576,
            ),
        ],
        kwargs={
            "chunk_start_idx_tensor": Input(
                (1,),
                ttnn.int32,
                ttnn.ROW_MAJOR_LAYOUT,
                ttnn.DRAM_MEMORY_CONFIG,
                (False, False),
                values="chunk_start",
                high=3968,
            ),
            "scale": cfg.ATTENTION_SCALE,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
            "program_config": cfg.ATTENTION_SHORT_PREFILL_PROGRAM[128],
            "compute_kernel_config": cfg.COMPUTE_HIFI3,
        },
        pcc=0.999,
    ),
    # attention.toml:181
    Case(
        name="model.layers.0.self_attn'",
        used=["model.layers.0.self_attn"],
        args=[
            Input((1, 8, 512, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, False)),
            Input((576, 1, 64, 128), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, True)),
            Input((576, 1, 64, 128), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, True)),
            Input(
                (1, 64),
                ttnn.int32,
                ttnn.ROW_MAJOR_LAYOUT,
                ttnn.DRAM_MEMORY_CONFIG,
                (False, True),
                values="page_table",
                high=576,
            ),
        ],
        kwargs={
            "chunk_start_idx_tensor": Input(
                (1,),
                ttnn.int32,
                ttnn.ROW_MAJOR_LAYOUT,
                ttnn.DRAM_MEMORY_CONFIG,
                (False, False),
                values="chunk_start",
                high=3584,
            ),
            "scale": cfg.ATTENTION_SCALE,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
            "program_config": cfg.ATTENTION_SHORT_PREFILL_PROGRAM[512],
            "compute_kernel_config": cfg.COMPUTE_HIFI3,
        },
        pcc=0.999,
    ),
    # attention.toml:181
    Case(
        name="model.layers.0.self_attn''",
        used=["model.layers.0.self_attn"],
        args=[
            Input((1, 8, 512, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, True)),
            Input((576, 1, 64, 128), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, True)),
            Input((576, 1, 64, 128), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, True)),
            Input(
                (1, 64),
                ttnn.int32,
                ttnn.ROW_MAJOR_LAYOUT,
                ttnn.DRAM_MEMORY_CONFIG,
                (False, True),
                values="page_table",
                high=576,
            ),
        ],
        kwargs={
            "chunk_start_idx_tensor": Input(
                (1,),
                ttnn.int32,
                ttnn.ROW_MAJOR_LAYOUT,
                ttnn.DRAM_MEMORY_CONFIG,
                (False, True),
                values="chunk_start",
                high=3584,
            ),
            "scale": cfg.ATTENTION_SCALE,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
            "program_config": cfg.ATTENTION_PREFILL_PROGRAM,
            "compute_kernel_config": cfg.COMPUTE_HIFI3,
        },
        pcc=0.999,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_chunked_scaled_dot_product_attention(mesh_device, case):
    """Every chip's result against torch."""
    check(
        mesh_device,
        ttnn.transformer.chunked_scaled_dot_product_attention,
        references.chunked_scaled_dot_product_attention,
        case,
    )
