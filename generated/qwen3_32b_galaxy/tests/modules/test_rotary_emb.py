"""Modules of rotary_emb.py against Hugging Face's, with the same weights and inputs, in decode steps and prompts."""

import ttnn

from ... import model_config as cfg
from ...inputs import decode_tokens, prefill_positions
from ...mesh import from_mesh, to_mesh
from ...rotary_emb import Qwen3RotaryEmbedding
from ..pcc import assert_pcc


def test_qwen3_rotary_embedding_decode(mesh_device, reference):
    """model.rotary_emb"""
    weights = reference.weights(mesh_device)
    module = Qwen3RotaryEmbedding(mesh_device, weights.at("model.rotary_emb"))
    for step in reference.steps:
        position_ids = to_mesh(
            mesh_device, decode_tokens(step.positions.clamp(min=0)), (None, 3), ttnn.uint32, ttnn.ROW_MAJOR_LAYOUT
        )
        output, output_1 = module.decode_forward(position_ids)
        assert output.dtype == ttnn.bfloat16
        assert output_1.dtype == ttnn.bfloat16
        assert_pcc(
            from_mesh(mesh_device, output, (None, 1))[:, : cfg.BATCH], step.after["model.rotary_emb"][0], cfg.PCC
        )
        assert_pcc(
            from_mesh(mesh_device, output_1, (None, 1))[:, : cfg.BATCH], step.after["model.rotary_emb"][1], cfg.PCC
        )


def test_qwen3_rotary_embedding_prefill(mesh_device, reference):
    """model.rotary_emb"""
    weights = reference.weights(mesh_device)
    module = Qwen3RotaryEmbedding(mesh_device, weights.at("model.rotary_emb"))
    for prompt in reference.prompts:
        position_ids = to_mesh(
            mesh_device, prefill_positions(0, prompt.length), (None, None), ttnn.uint32, ttnn.ROW_MAJOR_LAYOUT
        )
        output, output_1 = module.prefill_forward(position_ids)
        assert output.dtype == ttnn.bfloat16
        assert output_1.dtype == ttnn.bfloat16
        assert_pcc(
            from_mesh(mesh_device, output, (None, None))[:, :, : prompt.count],
            prompt.after["model.rotary_emb"][0],
            cfg.PCC,
        )
        assert_pcc(
            from_mesh(mesh_device, output_1, (None, None))[:, :, : prompt.count],
            prompt.after["model.rotary_emb"][1],
            cfg.PCC,
        )
