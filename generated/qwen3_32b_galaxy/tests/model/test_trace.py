"""Decode steps and chunks as the loop runs them, call by call, then captured, then replayed from the trace, against Hugging Face's model."""

from ... import model_config as cfg
from ...decode_loop import DecodeLoop
from ...model import Qwen3ForCausalLM
from ..pcc import assert_pcc


def test_steps(mesh_device, reference):
    """Logits of every step; behind the first, it takes nothing from the host but the tokens."""
    model = Qwen3ForCausalLM(mesh_device, reference.weights(mesh_device), num_layers=reference.num_layers)
    kv_cache = [reference.kv_cache(mesh_device, layer) for layer in range(reference.num_layers)]
    loop = DecodeLoop(model, sampler=None)
    first = reference.steps[0]
    loop.load(first.tokens, first.positions, reference.page_table, kv_cache)
    try:
        for step in reference.steps:
            loop.load_tokens(step.tokens)
            logits = model.read_logits(loop.step())
            assert_pcc(logits, step.logits, cfg.PCC)
    finally:
        loop.release()


def test_chunks(mesh_device, reference):
    """Logits of prompts of the shortest chunk, one after another and again: what is replayed reads the prompt that was put last."""
    model = Qwen3ForCausalLM(mesh_device, reference.weights(mesh_device), num_layers=reference.num_layers)
    kv_cache, loop = model.allocate_kv_cache(), DecodeLoop(model, sampler=None)
    prompts = reference.prompts_of([min(cfg.PREFILL_LENGTHS)])
    try:
        for prompt in [*prompts, *prompts, *prompts]:
            host = model.host_prefill_inputs(prompt.tokens, 0, reference.user, reference.page_table)
            logits = loop.chunk(prompt.length, host, kv_cache)
            assert_pcc(model.read_prefill_logits(logits, prompt.tokens), prompt.logits, cfg.PCC)
    finally:
        loop.release()
