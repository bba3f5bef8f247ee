"""ttnn.experimental.nlp_concat_heads_decode with every combination of shapes, types and placements that the model uses."""

import pytest
import ttnn

from ... import model_config as cfg
from . import references
from .harness import Case, Input, check

CASES = [
    # attention.toml:136
    Case(
        name="model.layers.0.self_attn",
        used=["model.layers.0.self_attn"],
        args=[
            Input(
                (1, 32, 8, 128),
                ttnn.bfloat16,
                ttnn.TILE_LAYOUT,
                cfg.ATTENTION_ATTN_OUTPUT_GATHERED_MEMORY,
                (True, False),
            )
        ],
        kwargs={
            "num_heads": cfg.NUM_HEADS,
            "sub_core_grids": cfg.WORKER_CORES,
        },
        pcc=0.999,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_nlp_concat_heads_decode(mesh_device, case):
    """Every chip's result against torch."""
    check(mesh_device, ttnn.experimental.nlp_concat_heads_decode, references.nlp_concat_heads_decode, case)
