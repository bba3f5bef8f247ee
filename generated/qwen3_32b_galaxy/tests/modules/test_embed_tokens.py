"""Modules of embed_tokens.py against Hugging Face's, with the same weights and inputs, in decode steps and prompts."""

import ttnn

from ... import model_config as cfg
from ...embed_tokens import EmbedTokens
from ...inputs import decode_tokens, prefill_tokens
from ...mesh import from_mesh, to_mesh
from ..pcc import assert_pcc


def test_embed_tokens_decode(mesh_device, reference):
    """model.embed_tokens"""
    weights = reference.weights(mesh_device)
    module = EmbedTokens(mesh_device, weights.at("model.embed_tokens"))
    for step in reference.steps:
        input_ids = to_mesh(mesh_device, decode_tokens(step.tokens), (None, None), ttnn.uint32, ttnn.ROW_MAJOR_LAYOUT)
        output = module.decode_forward(input_ids)
        assert output.dtype == ttnn.bfloat16
        assert_pcc(
            from_mesh(mesh_device, output, (None, 3))[:, :, : cfg.BATCH], step.after["model.embed_tokens"][0], cfg.PCC
        )


def test_embed_tokens_prefill(mesh_device, reference):
    """model.embed_tokens"""
    weights = reference.weights(mesh_device)
    module = EmbedTokens(mesh_device, weights.at("model.embed_tokens"))
    for prompt in reference.prompts_of((2048,)):
        input_ids = to_mesh(
            mesh_device, prefill_tokens(prompt.tokens, prompt.length), (None, None), ttnn.uint32, ttnn.ROW_MAJOR_LAYOUT
        )
        output = module.prefill_forward(input_ids)
        assert output.dtype == ttnn.bfloat16
        assert_pcc(
            from_mesh(mesh_device, output, (2, 3))[:, :, : prompt.count], prompt.after["model.embed_tokens"][0], cfg.PCC
        )


def test_embed_tokens_short_prefill(mesh_device, reference):
    """model.embed_tokens"""
    weights = reference.weights(mesh_device)
    module = EmbedTokens(mesh_device, weights.at("model.embed_tokens"))
    for prompt in reference.prompts_of((128, 512)):
        input_ids = to_mesh(
            mesh_device, prefill_tokens(prompt.tokens, prompt.length), (None, None), ttnn.uint32, ttnn.ROW_MAJOR_LAYOUT
        )
        output = module.short_prefill_forward(input_ids)
        assert output.dtype == ttnn.bfloat16
        assert_pcc(
            from_mesh(mesh_device, output, (None, 3))[:, :, : prompt.count],
            prompt.after["model.embed_tokens"][0],
            cfg.PCC,
        )
