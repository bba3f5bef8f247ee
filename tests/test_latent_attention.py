"""Latent attention: what is cached, written and shared by heads; recognised graphs, rows for them, and an emitted suite."""

import pytest
import torch
from recognised import assert_equals_model
from suites import assert_passes, run_suite
from suites import compiled as emitted
from tiny import CONFIGS, LATENT, compiled, config_of, folder_of, write_config
from torch import nn

from fx2ttnn import pipeline
from fx2ttnn.capture.clean import clean
from fx2ttnn.capture.expanded import expand_before_cache
from fx2ttnn.capture.to_graph import to_graph
from fx2ttnn.capture.trace import Trace
from fx2ttnn.capture.writes import join_writes
from fx2ttnn.errors import CaptureError
from fx2ttnn.graph.interpret import run
from fx2ttnn.ir import Graph, Op, Ref, TensorSpec


@pytest.mark.parametrize("family", LATENT)
def test_recognised_graph_equals_the_model(family):
    graph = assert_equals_model(config_of(family))
    assert not [op for op in graph.ops if op.name == "concat_shared_rope"]


@pytest.mark.parametrize("target", ["n150", "galaxy"])
@pytest.mark.parametrize("family", LATENT)
def test_every_operation_has_calls(family, target):
    result = compiled(family, target, max_seq_len=256)
    assert result.complete
    assert result.coverage.percent == 100


@pytest.mark.parametrize("heads", [6, 40])
def test_heads_that_the_mesh_does_not_divide(heads, tmp_path):
    fields = {**CONFIGS["deepseek_v3"], "num_attention_heads": heads, "num_key_value_heads": heads}
    config = write_config(tmp_path / "model", fields)
    assert pipeline.compile_model(pipeline.Options(str(config), "galaxy", max_seq_len=256)).complete


def graph_of(function, *inputs):
    """The captured graph of a function of tensors."""
    traced = torch.fx.experimental.proxy_tensor.make_fx(function, pre_dispatch=True, tracing_mode="fake")(*inputs)
    return clean(join_writes(to_graph(Trace(traced, {}, {}), {})))


def two_parts(x, y):
    whole = x.new_empty(2, 7)
    whole[:, 3:].copy_(y)
    whole[:, :3] = x
    return whole * 2


def rows_of_a_part(x, y):
    whole = x.clone()
    whole[:, 1:][1:].copy_(y)
    return whole + x


def columns_of_a_row(x, y):
    """As rotary embeddings of three axes mix them: the row is read through its view after two writes."""
    whole = x * 2
    row = whole[0]
    row[:, 1::3] = y
    row[:, 2::3] = whole[1, :, 2::3]
    return torch.cat((row, whole[0]), dim=-1)


@pytest.mark.parametrize(
    ("function", "shapes", "names"),
    [
        (two_parts, [(2, 3), (2, 4)], ["aten.cat.default", "aten.mul.Tensor"]),
        (
            columns_of_a_row,
            [(2, 3, 7), (3, 2)],
            [
                "mul",
                "select",
                "slice_scatter",
                "select_scatter",
                "select",
                "select",
                "slice",
                "slice_scatter",
                "select_scatter",
                "select",
                "select",
                "cat",
            ],
        ),
        (rows_of_a_part, [(3, 4), (3,)], ["slice", "expand", "slice_scatter", "slice_scatter", "add"]),
    ],
)
def test_writes_into_slices(function, shapes, names):
    inputs = [torch.randn(shape) for shape in shapes]
    graph = graph_of(function, *inputs)
    assert [op.name for op in graph.ops] == names or [op.name.split(".")[1] for op in graph.ops] == names
    (result,) = run(graph, dict(zip(graph.inputs, inputs, strict=True)), {})
    assert torch.equal(result, function(*inputs))


def test_a_slice_read_after_a_write_beside_it_is_refused():
    def seen(x, y):
        whole = x.clone()
        early = whole[:1]
        whole[:, :3].copy_(y)
        return early + 1

    with pytest.raises(CaptureError, match="writes into part of a tensor"):
        graph_of(seen, torch.randn(2, 4), torch.randn(2, 3))


def cached(*between: Op, specs: dict) -> Graph:
    """An attention that reads `keys`, which `between` makes of the cache [2, 1, 16, 4]."""
    update = Op("update_cache", (Ref("k"), Ref("v")), ("held_k", "held_v"), {"layer": 0})
    attention = Op("attention", (Ref("q"), Ref("keys"), Ref("held_v")), ("y",), {"scaling": 1.0})
    known = dict.fromkeys(("q", "k", "v"), TensorSpec((2, 1, 3, 4))) | {"y": TensorSpec((2, 3, 1, 4))}
    held = TensorSpec((2, 1, 16, 4))
    known |= {"held_k": held, "held_v": held, "keys": held} | specs
    return Graph("prefill", ("q", "k", "v"), ("y",), (update, *between, attention), known)


def test_what_is_computed_of_each_position_goes_before_the_cache():
    ops = [
        Op("aten.view.default", (Ref("held_k"), (2, 16, 4)), ("rows",)),
        Op("aten.mul.Tensor", (Ref("rows"), 2), ("twice",)),
        Op("aten.view.default", (Ref("twice"), (2, 1, 16, 4)), ("keys",)),
    ]
    rows = TensorSpec((2, 16, 4))
    graph = expand_before_cache(cached(*ops, specs={"rows": rows, "twice": rows}))
    assert [op.name.split(".")[-2:][0] for op in graph.ops] == ["view", "mul", "view", "update_cache", "attention"]
    assert graph.specs[graph.ops[2].outputs[0]].shape == (2, 1, 3, 4)
    assert graph.ops[3].args == (Ref(graph.ops[2].outputs[0]), Ref("v"))


@pytest.mark.parametrize(
    "op",
    [
        Op("aten.softmax.int", (Ref("held_k"), 2), ("keys",)),  # over the positions
        Op("aten.mul.Tensor", (Ref("held_k"), Ref("q")), ("keys",)),  # with what is not of the cache
    ],
)
def test_what_mixes_positions_stays_behind_the_cache(op):
    graph = cached(op, specs={})
    assert expand_before_cache(graph).ops == graph.ops


def test_experts_larger_than_memory_are_on_meta():
    from fx2ttnn.capture.build import _LargeOnMeta

    with _LargeOnMeta():
        assert torch.empty(2**20, 2**10).device.type == torch.empty((2**20, 2**10)).device.type == "meta"
        assert nn.Linear(4, 4).weight.device.type == "cpu"


@pytest.mark.slow
def test_the_emitted_suite_passes(tmp_path):
    """Keys wider than values, heads and experts over the chips of a mesh; residuals scaled by the depth are in the other's decoder."""
    package = emitted(tmp_path, str(folder_of("deepseek_v2")), "t3k", max_seq_len=256)
    assert_passes(run_suite(package, "tests/modules", "tests/model/test_model.py"))


@pytest.mark.slow
def test_numbers_that_depend_on_the_depth_are_the_whole_models(tmp_path):
    package = emitted(tmp_path, str(folder_of("minicpm3")), "n150", max_seq_len=256)
    assert_passes(run_suite(package, "tests/modules/test_decoder.py"))
