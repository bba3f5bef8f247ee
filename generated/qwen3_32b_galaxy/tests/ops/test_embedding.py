"""ttnn.embedding with every combination of shapes, types and placements that the model uses."""

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
            Input(
                (1, 1, 1, 8),
                ttnn.uint32,
                ttnn.ROW_MAJOR_LAYOUT,
                ttnn.DRAM_MEMORY_CONFIG,
                (False, True),
                values="ids",
                high=4096,
            ),
            Input((1, 1, 4096, 128), ttnn.bfloat16, ttnn.ROW_MAJOR_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)),
        ],
        kwargs={
            "layout": ttnn.TILE_LAYOUT,
            "memory_config": ttnn.L1_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # embedding.toml:3
    Case(
        name="model.embed_tokens",
        used=["model.embed_tokens"],
        args=[
            Input(
                (1, 1, 1, 32),
                ttnn.uint32,
                ttnn.ROW_MAJOR_LAYOUT,
                ttnn.DRAM_MEMORY_CONFIG,
                (False, False),
                values="ids",
                high=151936,
            ),
            Input((1, 1, 151936, 1280), ttnn.bfloat16, ttnn.ROW_MAJOR_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, True)),
        ],
        kwargs={
            "layout": ttnn.TILE_LAYOUT,
            "memory_config": cfg.EMBED_TOKENS_HIDDEN_STATES_MEMORY,
        },
        pcc=0.999,
    ),
    # embedding.toml:48
    Case(
        name="model.rotary_emb'",
        used=["model.rotary_emb"],
        args=[
            Input(
                (1, 1, 1, 128),
                ttnn.uint32,
                ttnn.ROW_MAJOR_LAYOUT,
                ttnn.DRAM_MEMORY_CONFIG,
                (False, False),
                values="ids",
                high=4096,
            ),
            Input((1, 1, 4096, 128), ttnn.bfloat16, ttnn.ROW_MAJOR_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)),
        ],
        kwargs={
            "layout": ttnn.TILE_LAYOUT,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # embedding.toml:3
    Case(
        name="model.embed_tokens'",
        used=["model.embed_tokens"],
        args=[
            Input(
                (1, 1, 1, 128),
                ttnn.uint32,
                ttnn.ROW_MAJOR_LAYOUT,
                ttnn.DRAM_MEMORY_CONFIG,
                (False, False),
                values="ids",
                high=151936,
            ),
            Input((1, 1, 151936, 1280), ttnn.bfloat16, ttnn.ROW_MAJOR_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, True)),
        ],
        kwargs={
            "layout": ttnn.TILE_LAYOUT,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # embedding.toml:48
    Case(
        name="model.rotary_emb''",
        used=["model.rotary_emb"],
        args=[
            Input(
                (1, 1, 1, 512),
                ttnn.uint32,
                ttnn.ROW_MAJOR_LAYOUT,
                ttnn.DRAM_MEMORY_CONFIG,
                (False, False),
                values="ids",
                high=4096,
            ),
            Input((1, 1, 4096, 128), ttnn.bfloat16, ttnn.ROW_MAJOR_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)),
        ],
        kwargs={
            "layout": ttnn.TILE_LAYOUT,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # embedding.toml:3
    Case(
        name="model.embed_tokens''",
        used=["model.embed_tokens"],
        args=[
            Input(
                (1, 1, 1, 512),
                ttnn.uint32,
                ttnn.ROW_MAJOR_LAYOUT,
                ttnn.DRAM_MEMORY_CONFIG,
                (False, False),
                values="ids",
                high=151936,
            ),
            Input((1, 1, 151936, 1280), ttnn.bfloat16, ttnn.ROW_MAJOR_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, True)),
        ],
        kwargs={
            "layout": ttnn.TILE_LAYOUT,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # embedding.toml:48
    Case(
        name="model.rotary_emb'''",
        used=["model.rotary_emb"],
        args=[
            Input(
                (1, 1, 1, 512),
                ttnn.uint32,
                ttnn.ROW_MAJOR_LAYOUT,
                ttnn.DRAM_MEMORY_CONFIG,
                (False, True),
                values="ids",
                high=4096,
            ),
            Input((1, 1, 4096, 128), ttnn.bfloat16, ttnn.ROW_MAJOR_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, False)),
        ],
        kwargs={
            "layout": ttnn.TILE_LAYOUT,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # embedding.toml:3
    Case(
        name="model.embed_tokens'''",
        used=["model.embed_tokens"],
        args=[
            Input(
                (1, 1, 1, 2048),
                ttnn.uint32,
                ttnn.ROW_MAJOR_LAYOUT,
                ttnn.DRAM_MEMORY_CONFIG,
                (False, False),
                values="ids",
                high=151936,
            ),
            Input((1, 1, 151936, 1280), ttnn.bfloat16, ttnn.ROW_MAJOR_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, True)),
        ],
        kwargs={
            "layout": ttnn.TILE_LAYOUT,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_embedding(mesh_device, case):
    """Every chip's result against torch."""
    check(mesh_device, ttnn.embedding, references.embedding, case)
