"""ttnn.transformer.paged_scaled_dot_product_attention_decode with every combination of shapes, types and placements that the model uses."""

import pytest
import ttnn

from ... import model_config as cfg
from . import references
from .harness import Case, Input, check

CASES = [
    # attention.toml:126
    Case(
        name="model.layers.0.self_attn",
        used=["model.layers.0.self_attn"],
        args=[
            Input((1, 8, 8, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, cfg.ATTENTION_QUERY_MEMORY_2, (True, True)),
            Input((576, 1, 64, 128), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, True)),
            Input((576, 1, 64, 128), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, True)),
            Input(
                (8, 64),
                ttnn.int32,
                ttnn.ROW_MAJOR_LAYOUT,
                ttnn.DRAM_MEMORY_CONFIG,
                (False, True),
                values="page_table",
                high=576,
            ),
        ],
        kwargs={
            "cur_pos_tensor": Input(
                (8,),
                ttnn.int32,
                ttnn.ROW_MAJOR_LAYOUT,
                ttnn.DRAM_MEMORY_CONFIG,
                (False, True),
                values="current_pos",
                high=576,
            ),
            "scale": cfg.ATTENTION_SCALE,
            "memory_config": cfg.ATTENTION_ATTN_OUTPUT_MEMORY,
            "program_config": cfg.ATTENTION_DECODE_PROGRAM,
            "compute_kernel_config": cfg.COMPUTE_HIFI3,
        },
        pcc=0.999,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_paged_scaled_dot_product_attention_decode(mesh_device, case):
    """Every chip's result against torch."""
    check(
        mesh_device,
        ttnn.transformer.paged_scaled_dot_product_attention_decode,
        references.paged_scaled_dot_product_attention_decode,
        case,
    )
