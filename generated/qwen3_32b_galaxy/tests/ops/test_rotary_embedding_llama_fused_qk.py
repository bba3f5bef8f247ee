"""ttnn.experimental.rotary_embedding_llama_fused_qk with every combination of shapes, types and placements that the model uses."""

import pytest
import ttnn

from ... import model_config as cfg
from . import references
from .harness import Case, Input, Resource, check

CASES = [
    # attention.toml:96
    Case(
        name="model.layers.0.self_attn",
        used=["model.layers.0.self_attn"],
        args=[
            Input((1, 8, 8, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, cfg.ATTENTION_QUERY_RMS_NORM_MEMORY, (True, True)),
            Input((1, 8, 1, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, cfg.ATTENTION_KEY_RMS_NORM_MEMORY, (True, True)),
            Input((1, 16, 1, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, cfg.ROTARY_EMB_COS_MEMORY, (False, True)),
            Input((1, 16, 1, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, cfg.ROTARY_EMB_SIN_MEMORY, (False, True)),
            Resource("quarter_turns", ((1, 1, 512, 32), ttnn.bfloat16, cfg.ATTENTION_TURNS_MEMORY)),
        ],
        kwargs={},
        pcc=0.999,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_rotary_embedding_llama_fused_qk(mesh_device, case):
    """Every chip's result against torch."""
    check(
        mesh_device, ttnn.experimental.rotary_embedding_llama_fused_qk, references.rotary_embedding_llama_fused_qk, case
    )
