"""ALiBi: slopes found on numbers, what grows otherwise refused, and positions in columns of heads that give the bias."""

import pytest
import torch
from recognised import assert_equals_model
from suites import assert_passes, run_suite
from test_own_attention import BY_HAND, ROWS, own
from tiny import CONFIGS, write_config

from fx2ttnn import pipeline
from fx2ttnn.capture import capture_decode, capture_prefill, load_config
from fx2ttnn.errors import CaptureError
from fx2ttnn.graph import interpret
from fx2ttnn.ir import Graph, Op, Ref, TensorSpec
from fx2ttnn.lower.rules import load_rules
from fx2ttnn.recognise.alibi import positions_in_columns, wide_enough

SLOPES = (0.7, 0.5, 0.3, 0.11, 0.05, 0.01, 0.003, 0.001)
DISTANCE = "torch.arange(length) - positions[:, None, :, None]"
WINDOW = f"({DISTANCE} <= 0) & ({DISTANCE} > -5)"
LINEAR = f"torch.tensor({SLOPES})[:, None, None] * ({DISTANCE})"


def biased(bias, seen=ROWS):
    """Attention written out, with `bias` on the scores."""
    return BY_HAND.format(seen=seen).replace("seen =", f"scores = scores + {bias}\nseen =")


@pytest.mark.parametrize(("seen", "window"), [(ROWS, {}), (WINDOW, {"sliding_window": 5})])
def test_a_slope_of_each_head_is_recognised(seen, window, tmp_path):
    """Of more heads of queries than of keys, too."""
    config, model_class = own(tmp_path, biased(LINEAR, seen), "None")
    graph = assert_equals_model(config, model_class)
    assert not [op for op in graph.ops if op.name == "attention" and "slopes" in op.attrs]
    for captured in (capture_decode(config, 2, 64, model_class), capture_prefill(config, 16, 64, model_class)):
        forms = [op.attrs for op in captured.graph.ops if op.name == "attention"]
        assert forms
        for form in forms:
            assert form["slopes"] == pytest.approx(SLOPES, rel=1e-6, abs=1e-7)
            assert {"scaling": form["scaling"], **window} == {k: v for k, v in form.items() if k != "slopes"}


@pytest.mark.parametrize(
    "bias",
    [
        f"-0.01 * ({DISTANCE}) ** 2",
        f"({LINEAR}).clamp(min=-4)",  # alike near the token only
        f"({LINEAR}).bfloat16()",  # rounded
        f"{LINEAR} * (1 + 0.1 * torch.sigmoid(scores))",
    ],
)
def test_what_grows_otherwise_is_refused(bias, tmp_path):
    config, model_class = own(tmp_path, biased(bias), "None")
    with pytest.raises(CaptureError, match="a bias that grows otherwise"):
        capture_decode(config, 2, 64, model_class)


OF_TRANSFORMERS = {
    "bloom": {"n_layer": 2, "n_head": 8},
    "mpt": {"d_model": 512, "n_layers": 2, "n_heads": 8},
    "falcon": {"alibi": True},
}


@pytest.mark.parametrize("family", OF_TRANSFORMERS)
def test_a_model_of_transformers_is_complete(family, tmp_path):
    fields = {**CONFIGS["llama"], "hidden_size": 512, "num_key_value_heads": 8, "model_type": family}
    del fields["head_dim"]  # which some compute
    folder = write_config(tmp_path / family, {**fields, **OF_TRANSFORMERS[family]})
    assert_equals_model(load_config(str(folder)))
    for target in ("n150", "t3k"):
        assert pipeline.compile_model(pipeline.Options(str(folder), target, max_seq_len=256)).complete


def attention(length, head_dim, size):
    """A chunk of the tokens at `POSITIONS` over heads of `head_dim` columns that have been widened to `size`, with slopes."""
    shapes = {"q": (1, 8, 9, size), "k": (1, 4, 9, size), "held": (1, 4, length, size), "y": (1, 9, 8, size)}
    shapes = {**shapes, "v": shapes["k"], "held_v": shapes["held"]}
    order = (head_dim, head_dim, "halves", size)
    ops = (
        Op("update_cache", (Ref("k"), Ref("v")), ("held", "held_v"), {"orders": (order, order)}, "layers.0.attn"),
        Op("attention", (Ref("q"), Ref("held"), Ref("held_v")), ("y",), {"scaling": 0.3, "slopes": SLOPES}, "layers.0.attn"),
    )  # fmt: skip
    specs = {name: TensorSpec(shape) for name, shape in shapes.items()} | {"position_ids": TensorSpec((1, 9), "int64")}
    return Graph("prefill", ("position_ids", "q", "k", "v"), ("y",), ops, specs)


@pytest.mark.parametrize(("length", "head_dim"), [(100, 64), (2048, 80), (16384, 64), (1 << 20, 128)])
def test_columns_give_the_bias_in_numbers_of_few_bits(length, head_dim):
    """Each number is one of bfloat16, keys have whole numbers below 128, and both of few columns in blocks of 16 that heads leave free."""
    size = wide_enough(head_dim, length, 32)
    graph = positions_in_columns(attention(length, head_dim, size))
    placed, queries = graph.ops[-4].args[0], graph.ops[-1].args[0]
    positions = torch.tensor([[0, 1, 15, 16, 77, length // 3, length // 2, length - 2, length - 1]])
    values = {"position_ids": positions} | {name: torch.zeros(graph.specs[name].shape) for name in "qkv"}
    found = interpret.run_ops(graph, graph.ops[:-4] + graph.ops[-3:-1], values, {})
    q, k = found[queries], found[placed]
    assert torch.equal(q.bfloat16().float(), q)
    assert torch.equal(k.round(), k)
    assert k.min() >= 0
    assert k.max() < 128
    used = k.abs().amax((0, 1, 2)).nonzero().flatten()
    assert used.min() >= -(-head_dim // 32) * 16
    assert used.max() < size // 2
    bias = q.double() @ k[:, :1].double().mT * 0.3
    distance = positions[0] - positions[0][:, None]
    wanted = torch.tensor(SLOPES, dtype=torch.float64)[:, None, None] * distance
    # What is wrong by the same for all keys of a query, softmax does not see; it must be small next to scores.
    same = (bias - wanted).diagonal(dim1=-2, dim2=-1)
    assert same.abs().max() < 2.0**-14 * length
    assert torch.allclose(bias - same[..., None], wanted, rtol=2.0**-16, atol=1e-6)


def test_heads_without_room_keep_their_slopes():
    """In an op that no rule takes: they are never dropped."""
    graph = attention(2048, 64, 64)
    (update, op), (same, left) = graph.ops, positions_in_columns(graph).ops
    assert (same, left.name, left.args, left.attrs["slopes"]) == (update, "alibi_attention", op.args, SLOPES)
    assert "alibi_attention" not in {rule.op for rule in load_rules()}


@pytest.mark.slow
@pytest.mark.parametrize(("target", "precision"), [("t3k", "performance"), ("n150", "accuracy")])
def test_the_emitted_suite_passes(target, precision, tmp_path):
    own(tmp_path, biased(LINEAR), "None")
    module = f"{tmp_path / 'modeling_own.py'}:OwnForCausalLM"
    options = pipeline.Options(str(tmp_path / "own"), target, max_seq_len=256, module=module, precision=precision)
    pipeline.write_package(pipeline.compile_model(options), tmp_path / "package_of_own")
    assert_passes(run_suite(tmp_path / "package_of_own", "tests/ops", "tests/modules", "tests/model/test_model.py"))
