"""ttnn.reshape with every combination of shapes, types and placements that the model uses."""

import pytest
import ttnn

from ... import model_config as cfg
from . import references
from .harness import Case, Input, check

CASES = [
    # embedding.toml:35
    Case(
        name="model.rotary_emb",
        used=["model.rotary_emb"],
        args=[
            Input((1, 8, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.L1_MEMORY_CONFIG, (False, True)),
            [1, 8, 1, 128],
        ],
        kwargs={
            "memory_config": ttnn.L1_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # embedding.toml:3
    Case(
        name="model.embed_tokens",
        used=["model.embed_tokens"],
        args=[
            Input((1, 32, 1280), ttnn.bfloat16, ttnn.TILE_LAYOUT, cfg.EMBED_TOKENS_HIDDEN_STATES_MEMORY, (False, True)),
            [1, 1, 32, 1280],
        ],
        kwargs={
            "memory_config": cfg.EMBED_TOKENS_HIDDEN_STATES_MEMORY,
        },
        pcc=0.999,
    ),
    # embedding.toml:48
    Case(
        name="model.rotary_emb'",
        used=["model.rotary_emb"],
        args=[
            Input((1, 128, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)),
            [1, 1, 128, 128],
        ],
        kwargs={
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # embedding.toml:3
    Case(
        name="model.embed_tokens'",
        used=["model.embed_tokens"],
        args=[
            Input((1, 128, 1280), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, True)),
            [1, 1, 128, 1280],
        ],
        kwargs={
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # embedding.toml:48
    Case(
        name="model.rotary_emb''",
        used=["model.rotary_emb"],
        args=[
            Input((1, 512, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)),
            [1, 1, 512, 128],
        ],
        kwargs={
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # embedding.toml:3
    Case(
        name="model.embed_tokens''",
        used=["model.embed_tokens"],
        args=[
            Input((1, 512, 1280), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, True)),
            [1, 1, 512, 1280],
        ],
        kwargs={
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # embedding.toml:48
    Case(
        name="model.rotary_emb'''",
        used=["model.rotary_emb"],
        args=[
            Input((1, 512, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, True)),
            [1, 1, 512, 128],
        ],
        kwargs={
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # embedding.toml:3
    Case(
        name="model.embed_tokens'''",
        used=["model.embed_tokens"],
        args=[
            Input((1, 2048, 1280), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, True)),
            [1, 1, 2048, 1280],
        ],
        kwargs={
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_reshape(mesh_device, case):
    """Every chip's result against torch."""
    check(mesh_device, ttnn.reshape, references.reshape, case)
