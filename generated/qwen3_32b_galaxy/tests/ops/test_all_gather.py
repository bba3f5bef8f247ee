"""ttnn.all_gather with every combination of shapes, types and placements that the model uses."""

import pytest
import ttnn

from ... import model_config as cfg
from . import references
from .harness import Case, Input, check

CASES = [
    # collectives.toml:28
    Case(
        name="model.norm",
        used=["model.norm"],
        args=[Input((1, 1, 32, 1280), ttnn.bfloat16, ttnn.TILE_LAYOUT, cfg.RESIDUAL_MEMORY, (False, True)), 3],
        kwargs={
            "cluster_axis": 1,
            "memory_config": cfg.NORM_NORM_HIDDEN_STATES_GATHERED_MEMORY,
        },
        pcc=0.999,
    ),
    # norm.toml:75
    Case(
        name="model.layers.0.input_layernorm",
        used=["model.layers.0.input_layernorm"],
        args=[Input((1, 1, 128, 32), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, True)), 3],
        kwargs={
            "cluster_axis": 1,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # collectives.toml:28
    Case(
        name="model.layers.0.post_attention_layernorm",
        used=["model.layers.0.post_attention_layernorm"],
        args=[Input((1, 1, 128, 1280), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, True)), 3],
        kwargs={
            "cluster_axis": 1,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # collectives.toml:28
    Case(
        name="model.layers.0.mlp.down_proj",
        used=["model.layers.0.mlp.down_proj"],
        args=[Input((1, 1, 128, 800), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, True)), 3],
        kwargs={
            "cluster_axis": 1,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # collectives.toml:28
    Case(
        name="model.norm'",
        used=["model.norm"],
        args=[Input((1, 1, 32, 1280), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, True)), 3],
        kwargs={
            "cluster_axis": 1,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # norm.toml:75
    Case(
        name="model.layers.0.input_layernorm'",
        used=["model.layers.0.input_layernorm"],
        args=[Input((1, 1, 512, 32), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, True)), 3],
        kwargs={
            "cluster_axis": 1,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # collectives.toml:28
    Case(
        name="model.layers.0.post_attention_layernorm'",
        used=["model.layers.0.post_attention_layernorm"],
        args=[Input((1, 1, 512, 1280), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (False, True)), 3],
        kwargs={
            "cluster_axis": 1,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # collectives.toml:28
    Case(
        name="model.layers.0.mlp.down_proj'",
        used=["model.layers.0.mlp.down_proj"],
        args=[Input((1, 1, 512, 800), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, True)), 3],
        kwargs={
            "cluster_axis": 1,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # norm.toml:75
    Case(
        name="model.layers.0.input_layernorm''",
        used=["model.layers.0.input_layernorm"],
        args=[Input((1, 1, 256, 32), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, True)), 3],
        kwargs={
            "cluster_axis": 1,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # collectives.toml:80
    Case(
        name="model.layers.0.self_attn",
        used=["", "model.layers.0.self_attn"],
        args=[Input((1, 1, 256, 1280), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, True)), 2],
        kwargs={
            "cluster_axis": 0,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # heads.toml:75
    Case(
        name="model.layers.0.self_attn'",
        used=["model.layers.0.self_attn"],
        args=[Input((1, 1, 512, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, True)), 2],
        kwargs={
            "cluster_axis": 1,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # collectives.toml:80
    Case(
        name="model.layers.0.self_attn.o_proj",
        used=["model.layers.0.self_attn.o_proj"],
        args=[Input((1, 1, 512, 1024), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, True)), 2],
        kwargs={
            "cluster_axis": 1,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # collectives.toml:28
    Case(
        name="model.layers.0.post_attention_layernorm''",
        used=["model.layers.0.post_attention_layernorm"],
        args=[Input((1, 1, 256, 1280), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, True)), 3],
        kwargs={
            "cluster_axis": 1,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # collectives.toml:80
    Case(
        name="model.layers.0.mlp.gate_proj",
        used=["model.layers.0.mlp.gate_proj"],
        args=[Input((1, 1, 256, 5120), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, False)), 2],
        kwargs={
            "cluster_axis": 0,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # collectives.toml:28
    Case(
        name="model.layers.0.mlp.down_proj''",
        used=["model.layers.0.mlp.down_proj"],
        args=[Input((1, 1, 2048, 800), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, True)), 3],
        kwargs={
            "cluster_axis": 1,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # sampling.toml:101
    Case(
        name="sampler",
        used=["sampler"],
        args=[Input((1, 1, 32, 32), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, True)), 3],
        kwargs={
            "cluster_axis": 1,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # sampling.toml:101
    Case(
        name="sampler'",
        used=["sampler"],
        args=[
            Input(
                (1, 1, 32, 32),
                ttnn.uint32,
                ttnn.TILE_LAYOUT,
                ttnn.DRAM_MEMORY_CONFIG,
                (True, True),
                values="ids",
                high=32768,
            ),
            3,
        ],
        kwargs={
            "cluster_axis": 1,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # sampling.toml:101
    Case(
        name="sampler''",
        used=["sampler"],
        args=[Input((1, 1, 32, 128), ttnn.bfloat16, ttnn.TILE_LAYOUT, ttnn.DRAM_MEMORY_CONFIG, (True, False)), 3],
        kwargs={
            "cluster_axis": 0,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
    # sampling.toml:101
    Case(
        name="sampler'''",
        used=["sampler"],
        args=[
            Input(
                (1, 1, 32, 128),
                ttnn.uint32,
                ttnn.TILE_LAYOUT,
                ttnn.DRAM_MEMORY_CONFIG,
                (True, False),
                values="ids",
                high=32768,
            ),
            3,
        ],
        kwargs={
            "cluster_axis": 0,
            "memory_config": ttnn.DRAM_MEMORY_CONFIG,
        },
        pcc=0.999,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_all_gather(mesh_device, case):
    """Every chip's result against torch."""
    check(mesh_device, ttnn.all_gather, references.all_gather, case)
