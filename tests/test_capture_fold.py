"""Equal layers are captured once, and only equal ones."""

import time

import pytest
import torch
from test_capture_numbers import BATCH, MAX_SEQ_LEN, STEPS, random_model, write_config

from fx2ttnn.capture import capture_decode, load_config
from fx2ttnn.capture.trace import cache_argument
from fx2ttnn.graph.interpret import run
from fx2ttnn.ir import Ref


@pytest.fixture(autouse=True)
def one_thread():
    """Tensors this small are slower on several threads, on a busy machine by far."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def capture(tmp_path, model_type, **fields):
    config = load_config(write_config(tmp_path, model_type, **fields))
    return config, capture_decode(config, batch=BATCH, max_seq_len=MAX_SEQ_LEN)


def likes(captured):
    return {op.module: op.attrs["like"] for op in captured.graph.ops if op.name == "layer"}


def assert_equals_model(config, graph):
    from transformers import DynamicCache

    model, theirs, ours = random_model(config), DynamicCache(config=config), {}
    for step in range(STEPS):
        ids, positions = torch.randint(3, 80, (BATCH, 1)), torch.full((BATCH, 1), step)
        expected = model(
            input_ids=ids, position_ids=positions, use_cache=True, **{cache_argument(model): theirs}
        ).logits
        (logits,) = run(graph, {"input_ids": ids, "position_ids": positions, **model.state_dict()}, ours)
        assert (logits - expected).abs().max() < 1e-4


def test_equal_layers_are_folded(tmp_path):
    _, captured = capture(tmp_path, "qwen3")
    assert likes(captured) == {f"model.layers.{i}": "model.layers.0" for i in (1, 2, 3)}
    assert captured.modules["model.layers.2"].like == "model.layers.0"
    assert captured.modules["model.layers.0"].like is None
    assert captured.modules["model.layers.2.self_attn"].class_name == "Qwen3Attention"


def test_a_folded_layer_names_what_is_replaced(tmp_path):
    _, captured = capture(tmp_path, "qwen3")
    op = next(op for op in captured.graph.ops if op.name == "layer")
    assert isinstance(op.attrs["takes"], Ref) and isinstance(op.attrs["gives"], Ref)
    assert captured.graph.producers()[op.attrs["takes"]].module == "model.embed_tokens"
    assert op.args == (op.attrs["gives"],)


def test_local_and_global_layers_are_kinds_of_their_own(tmp_path):
    kinds = ["sliding_attention", "full_attention"] * 3
    fields = {"num_hidden_layers": 6, "layer_types": kinds, "sliding_window": 3}
    _, captured = capture(tmp_path, "gemma3_text", **fields)
    assert likes(captured) == {f"model.layers.{i}": f"model.layers.{i % 2}" for i in range(2, 6)}
    windows = [op.attrs.get("sliding_window") for op in captured.graph.ops if op.name == "attention"]
    assert windows == [3, None]


def test_dense_and_expert_layers_are_kinds_of_their_own(tmp_path):
    moe = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "mlp_only_layers": [0, 3]}
    _, captured = capture(tmp_path, "qwen3_moe", **moe)
    assert likes(captured) == {"model.layers.2": "model.layers.1", "model.layers.3": "model.layers.0"}


def scaled(self):
    return 1.0 + self.layer_idx


def looked_up(self):
    return [0.5, 1.5, 2.5, 3.5][self.layer_idx]


def branched(self):
    return 2.0 if self.layer_idx == 2 else 1.0


def swallowed(self):
    try:
        return 1.0 + self.layer_idx
    except BaseException:
        return 1.0


@pytest.mark.parametrize("factor", [scaled, looked_up, branched, swallowed])
def test_a_layer_that_uses_its_index_is_not_folded(factor, tmp_path, monkeypatch):
    from transformers.models.qwen3.modeling_qwen3 import Qwen3Attention

    forward = Qwen3Attention.forward

    def depends_on_index(self, *args, **kwargs):
        out, weights = forward(self, *args, **kwargs)
        return out * factor(self), weights

    monkeypatch.setattr(Qwen3Attention, "forward", depends_on_index)
    config, captured = capture(tmp_path, "qwen3")
    assert likes(captured) == {}
    assert_equals_model(config, captured.graph)


def test_a_layer_that_differs_in_an_attribute_is_not_folded(tmp_path, monkeypatch):
    from transformers.models.qwen3.modeling_qwen3 import Qwen3Attention

    init = Qwen3Attention.__init__

    def other_scaling(self, config, layer_idx):
        init(self, config, layer_idx)
        self.scaling = 0.5 if layer_idx == 2 else self.scaling

    monkeypatch.setattr(Qwen3Attention, "__init__", other_scaling)
    config, captured = capture(tmp_path, "qwen3")
    assert set(likes(captured)) == {"model.layers.1", "model.layers.3"}
    assert_equals_model(config, captured.graph)


def test_a_layer_that_leaves_something_behind_is_not_folded(tmp_path, monkeypatch):
    from transformers.models.qwen3.modeling_qwen3 import Qwen3DecoderLayer

    forward = Qwen3DecoderLayer.forward

    def leaves_behind(self, hidden_states, **kwargs):
        self.last = forward(self, hidden_states, **kwargs)
        return self.last

    monkeypatch.setattr(Qwen3DecoderLayer, "forward", leaves_behind)
    _, captured = capture(tmp_path, "qwen3")
    assert likes(captured) == {}


def test_cost_grows_with_distinct_layers():
    config = load_config("qwen3-32b")
    capture_decode(load_config("qwen3-32b", layers=2))  # imports
    start = time.process_time()  # of this process alone, whatever else the machine does
    captured = capture_decode(config)
    seconds = time.process_time() - start
    assert len(captured.parameter_specs) == 707
    assert captured.graph.specs[captured.graph.outputs[0]].shape == (32, 1, 151936)
    assert sum(op.name == "layer" for op in captured.graph.ops) == 63
    assert sum(op.name == "attention" for op in captured.graph.ops) == 1
    assert seconds < 3


def test_capture_is_the_same_every_time(tmp_path):
    first, second = (str(capture(tmp_path, "gemma3_text")[1].graph) for _ in range(2))
    assert first == second


def test_tied_weights_and_every_weight_has_a_spec(tmp_path):
    _, captured = capture(tmp_path, "qwen3", tie_word_embeddings=True)
    assert captured.tied == {"lm_head.weight": "model.embed_tokens.weight"}
    assert captured.parameter_specs["model.layers.3.mlp.up_proj.weight"].shape == (96, 64)
    assert captured.config["model_type"] == "qwen3"
    assert set(captured.graph.parameters.values()) <= set(captured.parameter_specs)
