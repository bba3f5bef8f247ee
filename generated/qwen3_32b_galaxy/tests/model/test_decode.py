"""The decode step of the model, token ids to logits, against Hugging Face's model: several steps through the paged cache."""

from ... import model_config as cfg
from ...model import Qwen3ForCausalLM
from ..pcc import assert_pcc


def test_decode(mesh_device, reference):
    """Logits of every step, a different position for every user."""
    model = Qwen3ForCausalLM(mesh_device, reference.weights(mesh_device), num_layers=reference.num_layers)
    kv_cache = [reference.kv_cache(mesh_device, layer) for layer in range(reference.num_layers)]
    for step in reference.steps:
        inputs = model.prepare_decode_inputs(step.tokens, step.positions, reference.page_table)
        logits = model.decode_forward(**inputs, kv_cache=kv_cache)
        assert_pcc(model.read_logits(logits), step.logits, cfg.PCC)
