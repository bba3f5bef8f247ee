"""Modules of rotary_emb.py against Hugging Face's, with the same weights and inputs, for several decode steps."""

import ttnn

from ... import model_config as cfg
from ...mesh import decode_tokens, from_mesh, to_mesh
from ...rotary_emb import Qwen3RotaryEmbedding
from ..pcc import assert_pcc


def test_qwen3_rotary_embedding(mesh_device, reference):
    """model.rotary_emb"""
    weights = reference.weights(mesh_device)
    module = Qwen3RotaryEmbedding(mesh_device, weights.at("model.rotary_emb"))
    for step in reference.steps:
        position_ids = to_mesh(
            mesh_device, decode_tokens(step.positions.clamp(min=0)), (None, 3), ttnn.uint32, ttnn.ROW_MAJOR_LAYOUT
        )
        output, output_1 = module.forward(position_ids)
        assert_pcc(
            from_mesh(mesh_device, output, (None, 1))[:, : cfg.BATCH], step.after["model.rotary_emb"][0], cfg.PCC
        )
        assert_pcc(
            from_mesh(mesh_device, output_1, (None, 1))[:, : cfg.BATCH], step.after["model.rotary_emb"][1], cfg.PCC
        )
