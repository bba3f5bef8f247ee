"""Modules of decoder.py against Hugging Face's, with the same weights and inputs, in decode steps and prompts."""

import torch
import ttnn

from ... import model_config as cfg
from ...decoder import Qwen3DecoderLayer
from ...inputs import (
    chunk_starts,
    decode_hidden,
    decode_rows,
    decode_tokens,
    pages_of_chunk,
    prefill_hidden,
    prefill_page_table,
    prefill_positions,
)
from ...mesh import from_mesh, to_mesh
from ...prefetcher import Prefetcher
from ...rotary_emb import Qwen3RotaryEmbedding
from ..pcc import assert_pcc


def test_qwen3_decoder_layer_decode(mesh_device, reference):
    """model.layers.0"""
    weights = reference.weights(mesh_device)
    module = Qwen3DecoderLayer(mesh_device, weights.at("model.layers.0"))
    key_cache, value_cache = reference.kv_cache(mesh_device, 0)
    rotary_emb = Qwen3RotaryEmbedding(mesh_device, weights.at("model.rotary_emb"))
    prefetcher = Prefetcher(mesh_device, weights.resources.global_circular_buffer(), [module.prefetched()])
    for step in reference.steps:
        hidden_states = to_mesh(
            mesh_device,
            decode_hidden(step.before["model.layers.0"]),
            (None, 3),
            ttnn.bfloat16,
            memory_config=cfg.EMBED_TOKENS_HIDDEN_STATES_MEMORY,
        )
        cos, sin = rotary_emb.decode_forward(
            to_mesh(
                mesh_device, decode_tokens(step.positions.clamp(min=0)), (None, 3), ttnn.uint32, ttnn.ROW_MAJOR_LAYOUT
            )
        )
        current_pos = to_mesh(
            mesh_device, decode_rows(step.positions, -1), (None, 0), ttnn.int32, ttnn.ROW_MAJOR_LAYOUT
        )
        page_table = to_mesh(
            mesh_device, decode_rows(reference.page_table, 0), (None, 0), ttnn.int32, ttnn.ROW_MAJOR_LAYOUT
        )
        with prefetcher.running():
            output = module.decode_forward(hidden_states, cos, sin, key_cache, value_cache, current_pos, page_table)
        assert output.dtype == ttnn.bfloat16
        assert_pcc(
            from_mesh(mesh_device, output, (None, 3))[:, :, : cfg.BATCH], step.after["model.layers.0"][0], cfg.PCC
        )


def test_qwen3_decoder_layer_prefill(mesh_device, reference):
    """model.layers.0"""
    weights = reference.weights(mesh_device)
    module = Qwen3DecoderLayer(mesh_device, weights.at("model.layers.0"))
    key_cache, value_cache = reference.kv_cache(mesh_device, 0)
    rotary_emb = Qwen3RotaryEmbedding(mesh_device, weights.at("model.rotary_emb"))
    for prompt in reference.prompts_of((2048,)):
        hidden_states = to_mesh(
            mesh_device,
            prefill_hidden(prompt.before["model.layers.0"], prompt.length),
            (2, 3),
            ttnn.bfloat16,
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
        )
        cos, sin = rotary_emb.prefill_forward(
            to_mesh(mesh_device, prefill_positions(0, prompt.length), (None, 3), ttnn.uint32, ttnn.ROW_MAJOR_LAYOUT)
        )
        chunk_page_table = to_mesh(
            mesh_device,
            pages_of_chunk(reference.page_table, reference.user, 0, prompt.length, prompt.count, 0),
            (None, 0),
            ttnn.int32,
            ttnn.ROW_MAJOR_LAYOUT,
        )
        page_table = to_mesh(
            mesh_device,
            prefill_page_table(reference.page_table, reference.user, prompt.count),
            (None, 0),
            ttnn.int32,
            ttnn.ROW_MAJOR_LAYOUT,
        )
        chunk_start = to_mesh(mesh_device, chunk_starts(0, prompt.length), (None, 0), ttnn.int32, ttnn.ROW_MAJOR_LAYOUT)
        output = module.prefill_forward(
            hidden_states, cos, sin, key_cache, value_cache, chunk_page_table, page_table, chunk_start
        )
        assert output.dtype == ttnn.bfloat16
        assert_pcc(
            from_mesh(mesh_device, output, (2, 3))[:, :, : prompt.count], prompt.after["model.layers.0"][0], cfg.PCC
        )


def test_qwen3_decoder_layer_short_prefill(mesh_device, reference):
    """model.layers.0"""
    weights = reference.weights(mesh_device)
    module = Qwen3DecoderLayer(mesh_device, weights.at("model.layers.0"))
    key_cache, value_cache = reference.kv_cache(mesh_device, 0)
    rotary_emb = Qwen3RotaryEmbedding(mesh_device, weights.at("model.rotary_emb"))
    for prompt in reference.prompts_of((128, 512)):
        hidden_states = to_mesh(
            mesh_device,
            prefill_hidden(prompt.before["model.layers.0"], prompt.length),
            (None, 3),
            ttnn.bfloat16,
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
        )
        cos, sin = rotary_emb.short_prefill_forward(
            to_mesh(mesh_device, prefill_positions(0, prompt.length), (None, None), ttnn.uint32, ttnn.ROW_MAJOR_LAYOUT)
        )
        chunk_page_table = to_mesh(
            mesh_device,
            pages_of_chunk(reference.page_table, reference.user, 0, prompt.length, prompt.count, 0),
            (None, 0),
            ttnn.int32,
            ttnn.ROW_MAJOR_LAYOUT,
        )
        page_table = to_mesh(
            mesh_device,
            prefill_page_table(reference.page_table, reference.user, prompt.count),
            (None, 0),
            ttnn.int32,
            ttnn.ROW_MAJOR_LAYOUT,
        )
        chunk_start = to_mesh(mesh_device, torch.tensor([0]), (None, None), ttnn.int32, ttnn.ROW_MAJOR_LAYOUT)
        output = module.short_prefill_forward(
            hidden_states, cos, sin, key_cache, value_cache, chunk_page_table, page_table, chunk_start
        )
        assert output.dtype == ttnn.bfloat16
        assert_pcc(
            from_mesh(mesh_device, output, (None, 3))[:, :, : prompt.count], prompt.after["model.layers.0"][0], cfg.PCC
        )
