"""The model, token ids to logits, against Hugging Face's: decode steps through the paged cache, prompts, and prompts in chunks."""

import torch
import ttnn

from ... import model_config as cfg
from ...model import Qwen3ForCausalLM
from ..pcc import assert_pcc

# Types of the tensors that each class places on the mesh, as planned.
PLACED = {
    "Qwen3RotaryEmbedding": {
        "cos": ttnn.bfloat16,
        "sin": ttnn.bfloat16,
    },
    "EmbedTokens": {
        "weight": ttnn.bfloat16,
    },
    "Qwen3RMSNorm": {
        "weight": ttnn.bfloat16,
    },
    "Qwen3Attention": {
        "qkv_proj": ttnn.bfloat8_b,
        "q_norm": ttnn.bfloat16,
        "turn": ttnn.bfloat16,
        "k_norm": ttnn.bfloat16,
        "o_proj": ttnn.bfloat8_b,
        "first_user": ttnn.int32,
        "turns": ttnn.bfloat16,
    },
    "Qwen3RMSNormGathered": {
        "weight_in_tiles": ttnn.bfloat16,
        "weight": ttnn.bfloat16,
    },
    "Qwen3MLP": {
        "gate_proj": ttnn.bfloat8_b,
        "up_proj": ttnn.bfloat8_b,
        "down_proj": ttnn.bfloat8_b,
    },
    "Qwen3RMSNormNorm": {
        "weight_in_tiles": ttnn.bfloat16,
        "weight": ttnn.bfloat16,
    },
    "LmHead": {
        "weight": ttnn.bfloat8_b,
    },
}


def test_types(mesh_device, reference):
    """Weights and caches have the types that are planned for them: one layer alone may be near enough with others."""
    model, found = _model(mesh_device, reference), {}
    for name, attribute, dtype in _placed(model):
        found.setdefault(name, {})[attribute] = dtype
    assert found == PLACED
    assert {cache.dtype for pair in model.allocate_kv_cache() for cache in pair} == {ttnn.bfloat8_b}


def test_decode(mesh_device, reference):
    """Logits of every step, a different position for every user."""
    model = _model(mesh_device, reference)
    kv_cache = [reference.kv_cache(mesh_device, layer) for layer in range(reference.num_layers)]
    for step in reference.steps:
        inputs = model.prepare_decode_inputs(step.tokens, step.positions, reference.page_table)
        logits = model.decode_forward(**inputs, kv_cache=kv_cache)
        assert_pcc(model.read_logits(logits), step.logits, cfg.PCC)


def test_prefill(mesh_device, reference):
    """Logits of every prompt's last token, and the keys and values that it leaves in the cache."""
    model = _model(mesh_device, reference)
    for prompt in reference.prompts:
        kv_cache = model.allocate_kv_cache()
        logits = _prefill(model, reference, kv_cache, prompt.tokens, 0)
        assert_pcc(logits, prompt.logits, cfg.PCC)
        for cache, expected in zip(kv_cache, prompt.cache):
            for found, wanted in zip(reference.read_cache(mesh_device, cache, prompt.count), expected):
                assert_pcc(found, wanted, cfg.PCC)


def test_prefill_in_chunks(mesh_device, reference):
    """A prompt of several of the shortest chunks gives the same as in one pass of Hugging Face's model."""
    model = _model(mesh_device, reference)
    prompt, length = reference.chunked_prompt, min(cfg.PREFILL_LENGTHS)
    kv_cache = model.allocate_kv_cache()
    for start in range(0, prompt.count, length):
        logits = _prefill(model, reference, kv_cache, prompt.tokens[start : start + length], start)
    assert_pcc(logits, prompt.logits, cfg.PCC)


def test_decode_after_prefill(mesh_device, reference):
    """A decode step of one user behind its prompt; twice the same gives the same. The others are idle: nothing is known of their rows."""
    model = _model(mesh_device, reference)
    prompt = reference.prompts[0]
    kv_cache = model.allocate_kv_cache()
    _prefill(model, reference, kv_cache, prompt.tokens[:-1], 0)
    tokens, positions = torch.zeros(cfg.BATCH, dtype=torch.int64), torch.full((cfg.BATCH,), -1)
    tokens[reference.user], positions[reference.user] = prompt.tokens[-1], prompt.count - 1
    inputs = model.prepare_decode_inputs(tokens, positions, reference.page_table)
    first, again = (
        model.read_logits(model.decode_forward(**inputs, kv_cache=kv_cache))[reference.user] for _ in range(2)
    )
    assert_pcc(first, prompt.logits, cfg.PCC)
    assert torch.equal(first, again)


def _model(mesh_device, reference):
    return Qwen3ForCausalLM(mesh_device, reference.weights(mesh_device), num_layers=reference.num_layers)


def _placed(module):
    """(class, attribute, type) of every tensor of a module and of those in it."""
    for attribute, held in vars(module).items():
        for part in held if isinstance(held, list) else [held]:
            if hasattr(part, "dtype"):
                yield type(module).__name__, attribute, part.dtype
            elif hasattr(part, "decode_forward"):
                yield from _placed(part)


def _prefill(model, reference, kv_cache, tokens, start):
    inputs = model.prepare_prefill_inputs(tokens, start, reference.user, reference.page_table)
    return model.read_prefill_logits(model.prefill_forward(**inputs, kv_cache=kv_cache), tokens)
