"""Mixtures of experts: capture, recognition, placement, and the emitted gate and experts against Hugging Face."""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from checkpoints import reader_of
from recognised import assert_equals_model
from suites import NUMBERS, assert_passes, run_suite
from test_weights import compiled as compiled_package
from tiny import CONFIGS, MIXTURES, compiled, config_of, package, random_model
from transformers.activations import ACT2FN

from fx2ttnn import pipeline
from fx2ttnn.capture import capture_decode, ops  # noqa: F401  (defines the op)
from fx2ttnn.capture.experts import activated, experts_function
from fx2ttnn.errors import CaptureError
from fx2ttnn.graph import interpret
from fx2ttnn.ir import Graph, Op, Ref, TensorSpec


def ops_of(graph: Graph, name: str) -> list[Op]:
    return [op for op in graph.ops if op.name == name]


def experts(**given: Any) -> SimpleNamespace:
    """What transformers hands over: a module of 4 experts, hidden size 8, 16 columns inside."""
    gate = given.pop("gate", lambda x: torch.nn.functional.silu(x[..., :16]) * x[..., 16:])
    known = {"has_gate": True, "has_bias": False, "is_transposed": False, "_apply_gate": gate}
    weights = {"gate_up_proj": torch.randn(4, 32, 8), "down_proj": torch.randn(4, 8, 16)}
    return SimpleNamespace(**{**known, **weights, **given})


@pytest.mark.parametrize(
    ("gate", "activation", "form"),
    [
        (lambda x: torch.nn.functional.gelu(x[..., ::2]) * x[..., 1::2], "gelu", "neighbours"),
        (lambda x: torch.relu(x.chunk(2, -1)[0]) * x.chunk(2, -1)[1], "relu", "halves"),
        (lambda x: ACT2FN["gelu_new"](x.chunk(2, -1)[0]) * x.chunk(2, -1)[1], "gelu_tanh", "halves"),
    ],
)
def test_the_activation_is_found_by_trying(gate, activation, form, monkeypatch):
    seen = {}
    monkeypatch.setattr(torch.ops.fx2ttnn, "experts", lambda *args: seen.update(form=args[8:]), raising=False)
    index = torch.zeros(3, 2, dtype=torch.int64)
    experts_function(experts(gate=gate), torch.randn(3, 8), index, torch.randn(3, 2))
    assert seen["form"] == (activation, form, None, None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"gate": lambda x: torch.sin(x[..., :16]) * x[..., 16:]}, "between their two products"),
        ({"has_post_expert_norm": True}, "norm after each expert"),
    ],
)
def test_experts_that_the_op_cannot_express(given, message):
    with pytest.raises(CaptureError, match=message):
        experts_function(experts(**given), torch.randn(3, 8), torch.zeros(3, 2, dtype=torch.int64), torch.randn(3, 2))


@pytest.mark.parametrize(
    "index",
    [[[0, 1], [0, 1], [0, 1]], [[0, 1], [2, 3], [1, 2]], [[3, 0], [3, 1], [3, 2]]],
    ids=["most experts empty", "each expert", "one for all"],
)
def test_the_interpreter_runs_the_chosen_experts(index):
    """Against a loop over tokens."""
    torch.manual_seed(0)
    hidden, weights, up, down = torch.randn(3, 8), torch.rand(3, 2), torch.randn(4, 32, 8), torch.randn(4, 8, 16)
    values = {"hidden": hidden, "index": torch.tensor(index), "weights": weights, "up": up, "down": down}
    attrs = {"transposed": False, "activation": "silu", "gate": "halves"}
    op = Op("experts", tuple(map(Ref, values)), ("out",), attrs)
    specs = {name: TensorSpec(tuple(value.shape)) for name, value in {**values, "out": hidden}.items()}
    (found,) = interpret.run(Graph("decode", tuple(values), ("out",), (op,), specs), values, {})
    for token, chosen in enumerate(index):
        inner = [activated(up[expert] @ hidden[token], "silu", "halves") for expert in chosen]
        expected = sum(w * (down[e] @ x) for w, e, x in zip(weights[token], chosen, inner, strict=True))
        assert torch.allclose(found[token], expected, atol=1e-5)


@pytest.mark.parametrize("family", MIXTURES)
def test_recognised_graph_equals_the_model(family):
    graph = assert_equals_model(config_of(family))
    weigh = "scale_both_by_routing" if family == "llama4_text" else "scale_by_routing"
    assert len(ops_of(graph, "router_logits")) == len(ops_of(graph, "scatter_routing")) == len(ops_of(graph, weigh)) > 0
    assert bool(ops_of(graph, "limit_to_groups")) == (family == "glm4_moe")


def test_equal_layers_are_folded():
    graph = capture_decode(config_of("qwen3_moe"), batch=2, max_seq_len=16).graph
    assert len(ops_of(graph, "experts")) == len(ops_of(graph, "layer")) == 1


@pytest.mark.parametrize("target", ["n150", "galaxy"])
@pytest.mark.parametrize("family", MIXTURES)
def test_every_operation_has_calls(family, target):
    result = compiled(family, target)
    assert result.complete
    assert result.coverage.percent == 100


def test_experts_are_split_over_all_chips():
    """64 experts on 32 chips: two on each, which weighs their columns itself; the chips' sums are added up."""
    plan = compiled("qwen3_moe_wide", "galaxy").plan
    (weigh,) = ops_of(plan.graph, "scale_by_routing")
    assert plan.placements[weigh.outputs[0]].axes == (2, 2)
    assert plan.placements[weigh.args[1]].axes == ("R", "R")
    assert plan.device_shape(weigh.outputs[0])[-1] == 2 * 512


def test_experts_that_read_what_is_weighed_are_split_likewise():
    plan = compiled("llama4_wide", "galaxy").plan
    (weigh,) = ops_of(plan.graph, "scale_both_by_routing")
    assert {plan.placements[value].axes for value in weigh.outputs} == {(2, 2)}
    assert plan.placements[weigh.args[-1]].axes == ("R", "R")


def test_an_expert_may_be_split_itself():
    """4 experts on 8 chips: half of one on each."""
    plan = compiled("mixtral_wide", "t3k").plan
    (weigh,) = ops_of(plan.graph, "scale_by_routing")
    assert plan.device_shape(weigh.outputs[0])[-1] == 1024


def test_weights_of_all_experts_count():
    """3 matrices of each expert in bfloat8_b on one chip, in each of 2 layers."""
    small, large = (compiled(name, "n150").plan.dram["weights"] for name in ("mixtral_wide", "qwen3_moe_wide"))
    assert large > 2 * 64 * 3 * 1024 * 512 * 1088 / 1024
    assert small > 2 * 4 * 3 * 1024 * 2048 * 1088 / 1024


@pytest.mark.parametrize("family", ["qwen3_moe", "mixtral"])
def test_a_checkpoint_with_a_tensor_for_each_expert(family, tmp_path):
    """As it lies on the hub, which transformers writes too: it reads as the model's own tensors."""
    model = random_model(config_of(family)).bfloat16()
    model.save_pretrained(tmp_path / "checkpoint")
    reader, _ = reader_of(CONFIGS[family], tmp_path)
    state = reader.open_checkpoint(tmp_path / "checkpoint")
    assert any(".experts.0." in name for name in reader.Checkpoint(tmp_path / "checkpoint"))
    reader.check_tensors(state)
    expected = model.state_dict()
    assert set(state) == set(expected)
    for name, tensor in expected.items():
        assert torch.equal(reader.read_tensor(state, name), tensor), name


def test_a_checkpoint_that_lacks_an_expert(tmp_path):
    from safetensors.torch import load_file, save_file

    random_model(config_of("mixtral")).bfloat16().save_pretrained(tmp_path / "checkpoint")
    file = tmp_path / "checkpoint" / "model.safetensors"
    state = {name: tensor for name, tensor in load_file(file).items() if ".experts.2.w3." not in name}
    save_file(state, file)
    reader, _ = reader_of(CONFIGS["mixtral"], tmp_path)
    with pytest.raises(reader.CheckpointError, match="missing: .*experts.gate_up_proj"):
        reader.check_tensors(reader.open_checkpoint(tmp_path / "checkpoint"))


def test_the_reference_takes_tokens_that_choose_their_experts_clearly(tmp_path, monkeypatch):
    """With 128 experts, 10 chosen, most tokens drawn at random are near-ties in all layers: they are drawn again."""
    config = CONFIGS["qwen3_moe"] | {"num_experts": 128, "num_experts_per_tok": 10, "moe_intermediate_size": 32}
    compiled_package(tmp_path, config, "n150", "near_ties")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("near_ties.tests.reference")
    reference = module.Reference()
    drawn = torch.randint(0, config["vocab_size"], (100,))
    random = reference._routed(module.Prompt(drawn), module.DynamicCache(), input_ids=drawn[None])
    with pytest.raises(AssertionError):
        reference.all_decided(random)
    for prompt in reference.prompts:
        assert reference.all_decided(prompt)[-1]
    for step in reference.steps:
        reference.all_decided(step)
    whole = reference.model.float()  # at once, where the reference does it operation by operation
    for prompt in reference.prompts:
        with torch.no_grad():
            torch.testing.assert_close(whole(prompt.tokens[None]).logits[0, -1], prompt.logits)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "target"),
    [
        ("qwen3_moe", "n150"),
        ("qwen2_moe", "n150"),
        ("glm4_moe", "n150"),
        ("gpt_oss", "n150"),
        ("llama4_text", "n150"),
        ("mixtral_wide", "t3k"),
        ("qwen3_moe_wide", "galaxy"),
    ],
)
def test_the_emitted_suite_passes(family, target):
    """Gate and experts as modules; one expert is chosen by many tokens, one by hardly any (see the emitted reference.py).

    A gated shared expert; groups, and a correction of the choice; biases, sinks and a clamped activation; experts that read what is weighed;
    half an expert on a chip; two experts on each of 32 chips.
    """
    few = target == "galaxy"  # what is around them runs on fewer chips
    selection = () if family == "qwen3_moe" else NUMBERS[:2] if few else NUMBERS
    assert_passes(run_suite(package(family, target), *selection))


def test_a_module_whose_tokens_are_divided_knows_the_length_of_the_chunk(tmp_path):
    """On a Galaxy a prompt's tokens are divided over an axis between the layers of gpt-oss."""
    compiled = pipeline.compile_model(pipeline.Options("gpt-oss-20b", "galaxy", layers=2))
    pipeline.write_package(compiled, tmp_path / "package")
    assert "seq_len = hidden_states.shape[2] * 4" in (tmp_path / "package" / "moe.py").read_text()
