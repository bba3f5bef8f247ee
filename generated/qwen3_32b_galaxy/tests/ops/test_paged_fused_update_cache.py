"""ttnn.experimental.paged_fused_update_cache with every combination of shapes, types and placements that the model uses."""

import pytest
import ttnn

from ... import model_config as cfg
from . import references
from .harness import Case, Input, check

CASES = [
    # cache.toml:25
    Case(
        name="model.layers.0.self_attn",
        used=["model.layers.0.self_attn"],
        args=[
            Input((576, 1, 64, 128), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, True)),
            Input(
                (1, 8, 1, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, cfg.ATTENTION_QUERY_ROTARY_OF_BOTH_MEMORY, (True, True)
            ),
            Input((576, 1, 64, 128), ttnn.bfloat8_b, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, True)),
            Input((1, 8, 1, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, cfg.ATTENTION_QKV_REDUCED_MEMORY_4, (True, True)),
        ],
        kwargs={
            "update_idxs_tensor": Input(
                (8,),
                ttnn.int32,
                ttnn.ROW_MAJOR_LAYOUT,
                ttnn.DRAM_MEMORY_CONFIG,
                (False, True),
                values="current_pos",
                high=576,
            ),
            "page_table": Input(
                (8, 64),
                ttnn.int32,
                ttnn.ROW_MAJOR_LAYOUT,
                ttnn.DRAM_MEMORY_CONFIG,
                (False, True),
                values="page_table",
                high=576,
            ),
        },
        written=(0, 2),
        returns=False,
        pcc=0.999,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_paged_fused_update_cache(mesh_device, case):
    """Every chip's result against torch."""
    check(mesh_device, ttnn.experimental.paged_fused_update_cache, references.paged_fused_update_cache, case)
