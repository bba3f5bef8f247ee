"""ttnn.experimental.nlp_create_qkv_heads_decode with every combination of shapes, types and placements that the model uses."""

import pytest
import ttnn

from ... import model_config as cfg
from . import references
from .harness import Case, Input, check

CASES = [
    # attention.toml:8
    Case(
        name="model.layers.0.self_attn",
        used=["model.layers.0.self_attn"],
        args=[
            Input((1, 1, 32, 1280), ttnn.bfloat16, ttnn.TILE_LAYOUT, cfg.ATTENTION_QKV_REDUCED_MEMORY, (True, False))
        ],
        kwargs={
            "num_heads": cfg.NUM_HEADS,
            "num_kv_heads": cfg.NUM_KV_HEADS,
            "batch_offset": Input(
                (1, 1), ttnn.int32, ttnn.ROW_MAJOR_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, True), values="first_user"
            ),
            "slice_size": 8,
            "memory_config": ttnn.L1_HEIGHT_SHARDED_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_nlp_create_qkv_heads_decode(mesh_device, case):
    """Every chip's result against torch."""
    check(mesh_device, ttnn.experimental.nlp_create_qkv_heads_decode, references.nlp_create_qkv_heads_decode, case)
