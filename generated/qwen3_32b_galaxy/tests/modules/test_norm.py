"""Modules of norm.py against Hugging Face's, with the same weights and inputs, in decode steps and prompts."""

import ttnn

from ... import model_config as cfg
from ...inputs import decode_hidden, prefill_hidden
from ...mesh import from_mesh, to_mesh
from ...norm import Qwen3RMSNorm, Qwen3RMSNormGathered, Qwen3RMSNormNorm
from ...prefetcher import Prefetcher
from ..pcc import assert_pcc


def test_qwen3_rmsnorm_decode(mesh_device, reference):
    """model.layers.0.input_layernorm"""
    weights = reference.weights(mesh_device)
    module = Qwen3RMSNorm(mesh_device, weights.at("model.layers.0.input_layernorm"))
    prefetcher = Prefetcher(mesh_device, weights.resources.global_circular_buffer(), [])
    for step in reference.steps:
        given = reference.with_small_rows(step.before["model.layers.0.input_layernorm"], 1e-06)
        hidden_states = to_mesh(
            mesh_device,
            decode_hidden(given),
            (None, 3),
            ttnn.bfloat16,
            memory_config=cfg.EMBED_TOKENS_HIDDEN_STATES_MEMORY,
        )
        with prefetcher.running():
            output = module.decode_forward(hidden_states)
        assert output.dtype == ttnn.bfloat16
        assert_pcc(
            from_mesh(mesh_device, output, (None, 3))[:, :, : cfg.BATCH],
            reference.output("model.layers.0.input_layernorm", given),
            cfg.PCC,
        )


def test_qwen3_rmsnorm_prefill(mesh_device, reference):
    """model.layers.0.input_layernorm"""
    weights = reference.weights(mesh_device)
    module = Qwen3RMSNorm(mesh_device, weights.at("model.layers.0.input_layernorm"))
    for prompt in reference.prompts_of((2048,)):
        given = reference.with_small_rows(prompt.before["model.layers.0.input_layernorm"], 1e-06)
        hidden_states = to_mesh(
            mesh_device,
            prefill_hidden(given, prompt.length),
            (2, 3),
            ttnn.bfloat16,
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
        )
        output = module.prefill_forward(hidden_states)
        assert output.dtype == ttnn.bfloat16
        assert_pcc(
            from_mesh(mesh_device, output, (2, 3))[:, :, : prompt.count],
            reference.output("model.layers.0.input_layernorm", given),
            cfg.PCC,
        )


def test_qwen3_rmsnorm_short_prefill(mesh_device, reference):
    """model.layers.0.input_layernorm"""
    weights = reference.weights(mesh_device)
    module = Qwen3RMSNorm(mesh_device, weights.at("model.layers.0.input_layernorm"))
    for prompt in reference.prompts_of((128, 512)):
        given = reference.with_small_rows(prompt.before["model.layers.0.input_layernorm"], 1e-06)
        hidden_states = to_mesh(
            mesh_device,
            prefill_hidden(given, prompt.length),
            (None, 3),
            ttnn.bfloat16,
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
        )
        output = module.short_prefill_forward(hidden_states)
        assert output.dtype == ttnn.bfloat16
        assert_pcc(
            from_mesh(mesh_device, output, (None, 3))[:, :, : prompt.count],
            reference.output("model.layers.0.input_layernorm", given),
            cfg.PCC,
        )


def test_qwen3_rmsnorm_gathered_decode(mesh_device, reference):
    """model.layers.0.post_attention_layernorm"""
    weights = reference.weights(mesh_device)
    module = Qwen3RMSNormGathered(mesh_device, weights.at("model.layers.0.post_attention_layernorm"))
    prefetcher = Prefetcher(mesh_device, weights.resources.global_circular_buffer(), [])
    for step in reference.steps:
        given = reference.with_small_rows(step.before["model.layers.0.post_attention_layernorm"], 1e-06)
        hidden_states = to_mesh(
            mesh_device, decode_hidden(given), (None, 3), ttnn.bfloat16, memory_config=cfg.RESIDUAL_MEMORY
        )
        with prefetcher.running():
            output = module.decode_forward(hidden_states)
        assert output.dtype == ttnn.bfloat16
        assert_pcc(
            from_mesh(mesh_device, output, (None, None))[:, :, : cfg.BATCH],
            reference.output("model.layers.0.post_attention_layernorm", given),
            cfg.PCC,
        )


def test_qwen3_rmsnorm_gathered_prefill(mesh_device, reference):
    """model.layers.0.post_attention_layernorm"""
    weights = reference.weights(mesh_device)
    module = Qwen3RMSNormGathered(mesh_device, weights.at("model.layers.0.post_attention_layernorm"))
    for prompt in reference.prompts_of((2048,)):
        given = reference.with_small_rows(prompt.before["model.layers.0.post_attention_layernorm"], 1e-06)
        hidden_states = to_mesh(
            mesh_device,
            prefill_hidden(given, prompt.length),
            (2, 3),
            ttnn.bfloat16,
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
        )
        output = module.prefill_forward(hidden_states)
        assert output.dtype == ttnn.bfloat16
        assert_pcc(
            from_mesh(mesh_device, output, (2, None))[:, :, : prompt.count],
            reference.output("model.layers.0.post_attention_layernorm", given),
            cfg.PCC,
        )


def test_qwen3_rmsnorm_gathered_short_prefill(mesh_device, reference):
    """model.layers.0.post_attention_layernorm"""
    weights = reference.weights(mesh_device)
    module = Qwen3RMSNormGathered(mesh_device, weights.at("model.layers.0.post_attention_layernorm"))
    for prompt in reference.prompts_of((128, 512)):
        given = reference.with_small_rows(prompt.before["model.layers.0.post_attention_layernorm"], 1e-06)
        hidden_states = to_mesh(
            mesh_device,
            prefill_hidden(given, prompt.length),
            (None, 3),
            ttnn.bfloat16,
            memory_config=ttnn.DRAM_MEMORY_CONFIG,
        )
        output = module.short_prefill_forward(hidden_states)
        assert output.dtype == ttnn.bfloat16
        assert_pcc(
            from_mesh(mesh_device, output, (None, None))[:, :, : prompt.count],
            reference.output("model.layers.0.post_attention_layernorm", given),
            cfg.PCC,
        )


def test_qwen3_rmsnorm_norm_decode(mesh_device, reference):
    """model.norm"""
    weights = reference.weights(mesh_device)
    module = Qwen3RMSNormNorm(mesh_device, weights.at("model.norm"))
    for step in reference.steps:
        given = reference.with_small_rows(step.before["model.norm"], 1e-06)
        hidden_states = to_mesh(
            mesh_device, decode_hidden(given), (None, 3), ttnn.bfloat16, memory_config=cfg.RESIDUAL_MEMORY
        )
        output = module.decode_forward(hidden_states)
        assert output.dtype == ttnn.bfloat16
        assert_pcc(
            from_mesh(mesh_device, output, (None, None))[:, :, : cfg.BATCH],
            reference.output("model.norm", given),
            cfg.PCC,
        )


def test_qwen3_rmsnorm_norm_prefill(mesh_device, reference):
    """model.norm"""
    weights = reference.weights(mesh_device)
    module = Qwen3RMSNormNorm(mesh_device, weights.at("model.norm"))
    for prompt in reference.prompts_of((2048,)):
        given = reference.with_small_rows(prompt.before["model.norm"], 1e-06)
        hidden_states = to_mesh(
            mesh_device, prompt.last_tile(given), (None, 3), ttnn.bfloat16, memory_config=ttnn.DRAM_MEMORY_CONFIG
        )
        output = module.prefill_forward(hidden_states)
        assert output.dtype == ttnn.bfloat16
        assert_pcc(
            from_mesh(mesh_device, output, (None, None))[:, :, : prompt.rows],
            prompt.last_tile(reference.output("model.norm", given))[:, :, : prompt.rows],
            cfg.PCC,
        )


def test_qwen3_rmsnorm_norm_short_prefill(mesh_device, reference):
    """model.norm"""
    weights = reference.weights(mesh_device)
    module = Qwen3RMSNormNorm(mesh_device, weights.at("model.norm"))
    for prompt in reference.prompts_of((128, 512)):
        given = reference.with_small_rows(prompt.before["model.norm"], 1e-06)
        hidden_states = to_mesh(
            mesh_device, prompt.last_tile(given), (None, 3), ttnn.bfloat16, memory_config=ttnn.DRAM_MEMORY_CONFIG
        )
        output = module.short_prefill_forward(hidden_states)
        assert output.dtype == ttnn.bfloat16
        assert_pcc(
            from_mesh(mesh_device, output, (None, None))[:, :, : prompt.rows],
            prompt.last_tile(reference.output("model.norm", given))[:, :, : prompt.rows],
            cfg.PCC,
        )
