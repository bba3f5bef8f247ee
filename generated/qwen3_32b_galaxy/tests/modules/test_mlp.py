"""Modules of mlp.py against Hugging Face's, with the same weights and inputs, in decode steps and prompts."""

import ttnn

from ... import model_config as cfg
from ...inputs import decode_hidden, prefill_hidden
from ...mesh import from_mesh, to_mesh
from ...mlp import Qwen3MLP
from ...prefetcher import Prefetcher
from ..pcc import assert_pcc


def test_qwen3_mlp_decode(mesh_device, reference):
    """model.layers.0.mlp"""
    weights = reference.weights(mesh_device)
    module = Qwen3MLP(mesh_device, weights.at("model.layers.0.mlp"))
    prefetcher = Prefetcher(mesh_device, weights.resources.global_circular_buffer(), [module.prefetched()])
    for step in reference.steps:
        hidden_states = to_mesh(
            mesh_device,
            decode_hidden(step.before["model.layers.0.mlp"]),
            (None, None),
            ttnn.bfloat16,
            memory_config=cfg.NORM_GATHERED_HIDDEN_STATES_MEMORY,
        )
        with prefetcher.running():
            output = module.decode_forward(hidden_states)
        assert output.dtype == ttnn.bfloat16
        assert_pcc(
            from_mesh(mesh_device, output, (None, 3))[:, :, : cfg.BATCH], step.after["model.layers.0.mlp"][0], cfg.PCC
        )


def test_qwen3_mlp_prefill(mesh_device, reference):
    """model.layers.0.mlp"""
    weights = reference.weights(mesh_device)
    module = Qwen3MLP(mesh_device, weights.at("model.layers.0.mlp"))
    for prompt in reference.prompts_of((2048,)):
        hidden_states = to_mesh(
            mesh_device,
            prefill_hidden(prompt.before["model.layers.0.mlp"], prompt.length),
            (2, None),
            ttnn.bfloat16,
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
        )
        output = module.prefill_forward(hidden_states)
        assert output.dtype == ttnn.bfloat16
        assert_pcc(
            from_mesh(mesh_device, output, (2, 3))[:, :, : prompt.count], prompt.after["model.layers.0.mlp"][0], cfg.PCC
        )


def test_qwen3_mlp_short_prefill(mesh_device, reference):
    """model.layers.0.mlp"""
    weights = reference.weights(mesh_device)
    module = Qwen3MLP(mesh_device, weights.at("model.layers.0.mlp"))
    for prompt in reference.prompts_of((128, 512)):
        hidden_states = to_mesh(
            mesh_device,
            prefill_hidden(prompt.before["model.layers.0.mlp"], prompt.length),
            (None, None),
            ttnn.bfloat16,
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
        )
        output = module.short_prefill_forward(hidden_states)
        assert output.dtype == ttnn.bfloat16
        assert_pcc(
            from_mesh(mesh_device, output, (None, 3))[:, :, : prompt.count],
            prompt.after["model.layers.0.mlp"][0],
            cfg.PCC,
        )
