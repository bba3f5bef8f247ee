"""Modules of lm_head.py against Hugging Face's, with the same weights and inputs, in decode steps and prompts."""

import ttnn

from ... import model_config as cfg
from ...inputs import decode_hidden
from ...lm_head import LmHead
from ...mesh import from_mesh, to_mesh
from ..pcc import assert_pcc


def test_lm_head_decode(mesh_device, reference):
    """lm_head"""
    weights = reference.weights(mesh_device)
    module = LmHead(mesh_device, weights.at("lm_head"))
    for step in reference.steps:
        hidden_states = to_mesh(
            mesh_device,
            decode_hidden(step.before["lm_head"]),
            (None, None),
            ttnn.bfloat16,
            memory_config=cfg.NORM_NORM_HIDDEN_STATES_MEMORY,
        )
        output = module.decode_forward(hidden_states)
        assert output.dtype == ttnn.bfloat16
        assert_pcc(from_mesh(mesh_device, output, (3, 3))[:, :, : cfg.BATCH], step.after["lm_head"][0], cfg.PCC)


def test_lm_head_prefill(mesh_device, reference):
    """lm_head"""
    weights = reference.weights(mesh_device)
    module = LmHead(mesh_device, weights.at("lm_head"))
    for prompt in reference.prompts_of((2048,)):
        hidden_states = to_mesh(
            mesh_device,
            prompt.last_tile(prompt.before["lm_head"]),
            (None, None),
            ttnn.bfloat16,
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
        )
        output = module.prefill_forward(hidden_states)
        assert output.dtype == ttnn.bfloat16
        assert_pcc(
            from_mesh(mesh_device, output, (3, 3))[:, :, : prompt.rows],
            prompt.last_tile(prompt.after["lm_head"][0])[:, :, : prompt.rows],
            cfg.PCC,
        )


def test_lm_head_short_prefill(mesh_device, reference):
    """lm_head"""
    weights = reference.weights(mesh_device)
    module = LmHead(mesh_device, weights.at("lm_head"))
    for prompt in reference.prompts_of((128, 512)):
        hidden_states = to_mesh(
            mesh_device,
            prompt.last_tile(prompt.before["lm_head"]),
            (None, None),
            ttnn.bfloat16,
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
        )
        output = module.short_prefill_forward(hidden_states)
        assert output.dtype == ttnn.bfloat16
        assert_pcc(
            from_mesh(mesh_device, output, (3, 3))[:, :, : prompt.rows],
            prompt.last_tile(prompt.after["lm_head"][0])[:, :, : prompt.rows],
            cfg.PCC,
        )
