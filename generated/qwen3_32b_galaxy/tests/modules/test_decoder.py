"""Modules of decoder.py against Hugging Face's, with the same weights and inputs, for several decode steps."""

import ttnn

from ... import model_config as cfg
from ...decoder import Qwen3DecoderLayer
from ...mesh import decode_hidden, decode_rows, decode_tokens, from_mesh, to_mesh
from ...rotary_emb import Qwen3RotaryEmbedding
from ..pcc import assert_pcc


def test_qwen3_decoder_layer(mesh_device, reference):
    """model.layers.0"""
    weights = reference.weights(mesh_device)
    module = Qwen3DecoderLayer(mesh_device, weights.at("model.layers.0"))
    key_cache, value_cache = reference.kv_cache(mesh_device, 0)
    rotary_emb = Qwen3RotaryEmbedding(mesh_device, weights.at("model.rotary_emb"))
    for step in reference.steps:
        hidden_states = to_mesh(
            mesh_device,
            decode_hidden(step.before["model.layers.0"]),
            (None, 3),
            ttnn.bfloat16,
            memory_config=cfg.WIDTH_SHARDED_1280_ON_5X4,
        )
        cos, sin = rotary_emb.forward(
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
        output = module.forward(hidden_states, cos, sin, key_cache, value_cache, current_pos, page_table)
        assert_pcc(
            from_mesh(mesh_device, output, (None, 3))[:, :, : cfg.BATCH], step.after["model.layers.0"][0], cfg.PCC
        )
