"""The profile: exact FLOPs and bytes of small cases, known parameter counts, bounds that behave as bounds."""

import json
import re
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from io import StringIO

import networkx as nx
import pytest
from rich.console import Console
from test_capture_numbers import write_config

from fx2ttnn import targets
from fx2ttnn.capture import capture_decode, load_config
from fx2ttnn.fuse import fuse
from fx2ttnn.ir import Graph, Op, Ref, TensorSpec
from fx2ttnn.lower import lower
from fx2ttnn.plan import plan
from fx2ttnn.precision import PRECISIONS
from fx2ttnn.profile import profile
from fx2ttnn.profile.census import census
from fx2ttnn.profile.predicted import loads, predicted
from fx2ttnn.profile.render import render
from fx2ttnn.profile.work import Meter
from fx2ttnn.recognise import recognise

ACCURACY, PERFORMANCE = PRECISIONS["accuracy"], PRECISIONS["performance"]
EIGHT_BITS = 1088 / 1024  # bytes of a bfloat8_b value, with its share of the block's exponents


def measured(op, shapes, precision=ACCURACY, parameters=(), dtypes=None):
    """The work of `op` in a graph of nothing else; values that an `update_cache` made are those called cache_*."""
    specs = {name: TensorSpec(shape, (dtypes or {}).get(name, "float32")) for name, shape in shapes.items()}
    caches = tuple(name for name in shapes if name.startswith("cache_"))
    ops = (Op("update_cache", (), caches), op) if caches and op.name != "update_cache" else (op,)
    graph = Graph("g", (), op.outputs, ops, specs, {name: name for name in parameters})
    return Meter(graph, precision).work(op)


def op(name, inputs, outputs, **attrs):
    return Op(name, tuple(map(Ref, inputs)), tuple(outputs), attrs)


def test_linear():
    shapes = {"x": (2, 1, 8), "w": (4, 8), "b": (4,), "y": (2, 1, 4)}
    work = measured(op("linear", "xwb", "y"), shapes, PERFORMANCE, "wb")
    assert work.flops == 2 * 2 * 8 * 4 + 2 * 4
    assert work.parameter_bytes == 32 * EIGHT_BITS + 4 * 2
    assert work.activation_bytes == (16 + 8) * 2
    assert work.cache_bytes == 0
    assert work.intensity == work.flops / (work.parameter_bytes + 48)


def test_linear_with_several_weights():
    linear = Op("linear", (Ref("x"), (Ref("q"), Ref("k"), Ref("v"))), ("y",), {"widths": (8, 4, 4), "units": (2, 1, 1)})
    shapes = {"x": (2, 1, 8), "q": (8, 8), "k": (4, 8), "v": (4, 8), "y": (2, 1, 16)}
    work = measured(linear, shapes, parameters="qkv")
    assert (work.flops, work.parameter_bytes) == (2 * 2 * 8 * 16, 16 * 8 * 2)


@pytest.mark.parametrize(("window", "context"), [(None, 16), (5, 5), (99, 16)])
def test_attention_reads_the_cache_or_its_window(window, context):
    shapes = {"q": (3, 4, 1, 8), "cache_k": (3, 2, 16, 8), "cache_v": (3, 2, 16, 6), "y": (3, 1, 4, 6)}
    attrs = {} if window is None else {"sliding_window": window}
    work = measured(op("attention", ["q", "cache_k", "cache_v"], "y", **attrs), shapes, PERFORMANCE)
    assert work.flops == 2 * 3 * 4 * 1 * context * (8 + 6)
    assert work.cache_bytes == 3 * 2 * context * (8 + 6) * EIGHT_BITS
    assert work.activation_bytes == (3 * 4 * 8 + 3 * 4 * 6) * 2


def test_update_cache_writes_one_position():
    shapes = {"k": (3, 2, 1, 8), "v": (3, 2, 1, 8), "cache_k": (3, 2, 16, 8), "cache_v": (3, 2, 16, 8)}
    work = measured(op("update_cache", "kv", ["cache_k", "cache_v"]), shapes)
    assert (work.flops, work.cache_bytes, work.activation_bytes) == (0, 2 * 48 * 2, 2 * 48 * 2)


def test_embedding_reads_rows_only():
    shapes = {"ids": (3, 1), "w": (100, 8), "y": (3, 1, 8)}
    work = measured(op("embedding", ["ids", "w"], "y"), shapes, PERFORMANCE, "w", {"ids": "int64"})
    assert (work.flops, work.parameter_bytes, work.activation_bytes) == (0, 24 * 2, 3 * 4 + 24 * 2)


@pytest.mark.parametrize(
    ("name", "per_element"), [("rms_norm", 4), ("layer_norm", 7), ("add", 1), ("aten.mul.Tensor", 1)]
)
def test_elementwise(name, per_element):
    assert (
        measured(op(name, "xw", "y"), {"x": (3, 1, 8), "w": (8,), "y": (3, 1, 8)}, parameters="w").flops
        == 24 * per_element
    )


def test_plain_aten_ops():
    assert measured(op("aten.mean.dim", "x", "y"), {"x": (3, 8), "y": (3, 1)}).flops == 24
    assert measured(op("aten.view.default", "x", "y"), {"x": (3, 8), "y": (24,)}).flops == 0
    matmul = measured(
        op("aten.matmul.default", "xw", "y"), {"x": (4, 3, 8), "w": (4, 8, 5), "y": (4, 3, 5)}, parameters="w"
    )
    assert (matmul.flops, matmul.parameter_bytes) == (4 * 3 * 5 * 8 * 2, 160 * 2)


def test_a_view_of_a_parameter_is_no_work_and_stays_a_parameter():
    turned, matmul = op("aten.transpose.int", "w", "t"), op("aten.matmul.default", "xt", "y")
    shapes = {"x": (3, 8), "w": (5, 8), "t": (8, 5), "y": (3, 5)}
    specs = {name: TensorSpec(shape) for name, shape in shapes.items()}
    meter = Meter(Graph("g", ("x",), ("y",), (turned, matmul), specs, {"w": "w"}), PERFORMANCE)
    assert (meter.work(turned).flops, meter.work(turned).bytes) == (0, 0)
    assert meter.work(matmul).parameter_bytes == 40 * EIGHT_BITS


@cache
def recognised(name, layers=None, max_seq_len=4096):
    return recognise(capture_decode(load_config(name, layers), batch=32, max_seq_len=max_seq_len))


def tiny(folder, model_type="qwen3", **fields):
    folder.mkdir(exist_ok=True)
    return recognise(capture_decode(load_config(write_config(folder, model_type, **fields)), batch=3, max_seq_len=16))


# Tensors of the published checkpoints, tied ones once.
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("qwen3-0.6b", 596_049_920),
        ("llama-3.1-8b", 8_030_261_248),
        ("qwen3-32b", 32_762_123_264),
        ("llama-3.3-70b", 70_553_706_496),
    ],
)
def test_known_parameter_counts(name, parameters):
    assert profile(recognised(name), targets.load("galaxy")).totals.parameters == parameters


def test_totals_of_qwen3_32b():
    capture = recognised("qwen3-32b")
    totals = profile(capture, targets.load("galaxy"), PRECISIONS["accuracy"]).totals
    assert totals.layers == 64
    assert totals.device_bytes == totals.checkpoint_bytes == 2 * 32_762_123_264
    assert totals.cache_bytes_per_token == 64 * 2 * 8 * 128 * 2
    assert totals.cache_bytes == 64 * 2 * 8 * 128 * 2 * 32 * 4096
    matmuls = 2 * (32_762_123_264 - 151936 * 5120)  # all parameters but the embedding, 2 FLOPs each
    attention = 64 * 4 * 64 * 4096 * 128
    assert totals.flops_per_token == pytest.approx(matmuls + attention, rel=1e-3)


def test_tied_head_is_one_parameter_and_two_device_tensors(tmp_path):
    tied, untied = (
        profile(tiny(tmp_path / str(tie), tie_word_embeddings=tie), targets.load("n150")).totals
        for tie in (True, False)
    )
    assert untied.parameters - tied.parameters == 80 * 64
    assert untied.device_bytes == tied.device_bytes


def test_idle_rows_neither_read_nor_fill_the_cache():
    full = recognised("qwen3-32b")
    one = profile(replace(full, users=1), targets.load("galaxy"))
    all_of_them = profile(full, targets.load("galaxy"))
    assert (one.batch, one.rows, all_of_them.batch) == (1, 32, 32)
    assert one.totals.cache_bytes * 32 == all_of_them.totals.cache_bytes
    assert one.totals.cache_bytes_per_token == all_of_them.totals.cache_bytes_per_token
    assert one.totals.flops_per_token == all_of_them.totals.flops_per_token
    works = [{row.op: row.work for row in p.census} for p in (one, all_of_them)]
    assert works[0]["attention"].flops * 32 == works[1]["attention"].flops
    assert works[0]["attention"].cache_bytes * 32 == works[1]["attention"].cache_bytes
    assert works[0]["linear"] == works[1]["linear"]


def without_modules(rows):
    return [replace(row, modules=(), values=()) for row in rows]


LOCAL = {"num_hidden_layers": 6, "layer_types": ["sliding_attention", "full_attention"] * 3, "sliding_window": 3}
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "mlp_only_layers": [0, 3]}


@pytest.mark.parametrize(("model_type", "fields"), [("qwen3", {}), ("gemma3_text", LOCAL), ("qwen3_moe", MOE)])
def test_folded_layers_count_as_if_spelled_out(model_type, fields, tmp_path, monkeypatch):
    folded = tiny(tmp_path, model_type, **fields)

    @contextmanager
    def no_folding(self):
        yield

    monkeypatch.setattr("fx2ttnn.capture.fold.LayerFolder.active", no_folding)
    spelled_out = tiny(tmp_path, model_type, **fields)
    assert any(op.name == "layer" for op in folded.graph.ops)
    assert not any(op.name == "layer" for op in spelled_out.graph.ops)
    rows, expected = (census(c.graph, PERFORMANCE) for c in (folded, spelled_out))
    assert without_modules(rows) == without_modules(expected)
    n150 = targets.load("n150")
    assert profile(folded, n150).totals == profile(spelled_out, n150).totals


def test_three_layers_are_three_times_one(tmp_path):
    one, three = (
        {(row.op, row.inputs): row.count for row in census(tiny(tmp_path, num_hidden_layers=n).graph, PERFORMANCE)}
        for n in (1, 3)
    )
    hidden = ("float32[3, 1, 64]", "float32[64]")
    outside = {("embedding", ("int64[3, 1]", "float32[80, 64]")): 1, ("position_table", ("int64[3, 1]",)): 2}
    outside |= {("linear", ("float32[3, 1, 64]", "float32[80, 64]")): 1, ("rms_norm", hidden): 1}
    assert one["rms_norm", hidden] == 2 + 1
    assert three == {key: 3 * (count - outside.get(key, 0)) + outside.get(key, 0) for key, count in one.items()}


@cache
def planned(precision="performance", max_seq_len=4096):
    return plan(recognised("qwen3-32b", None, max_seq_len), targets.load("galaxy"), PRECISIONS[precision])


@cache
def lowered():
    return lower(fuse(planned()))


def bounds(target="galaxy", precision="performance", max_seq_len=4096, with_plan=False):
    made = planned(precision, max_seq_len) if with_plan else None
    found = profile(recognised("qwen3-32b", None, max_seq_len), targets.load(target), PRECISIONS[precision], made)
    return {(bound.split, bound.bandwidth): bound for bound in found.rooflines}


def test_roofline_by_hand():
    bound = bounds("galaxy", "accuracy")["even split", "data sheet"]
    weights = 2 * (32_762_123_264 - 151936 * 5120)
    cache_read = 64 * 2 * 8 * 128 * 2 * 32 * 4096
    assert bound.dram_seconds == pytest.approx((weights + cache_read) / 32 / 288e9, rel=1e-3)
    assert bound.bound_by == "DRAM"
    assert bound.tokens_per_second_per_user == 1 / bound.seconds


def test_roofline_is_monotonic():
    even = "even split", "measured"
    base = bounds()[even].seconds
    assert bounds()["even split", "data sheet"].seconds < base
    assert bounds(precision="accuracy")[even].seconds > base
    assert bounds(max_seq_len=8192)[even].seconds > base
    assert bounds("t3k")[even].seconds == pytest.approx(4 * base)
    assert bounds("n150")[even].seconds == pytest.approx(32 * base)


def test_bounds_are_below_the_predicted_step():
    found = bounds(with_plan=True)
    step = profile(recognised("qwen3-32b"), targets.load("galaxy"), plan=planned(), lowered=lowered()).step
    for bandwidth in ("data sheet", "measured"):
        even, placed = found["even split", bandwidth], found["as placed", bandwidth]
        assert even.seconds <= placed.seconds <= placed.serial_seconds < step.seconds
        assert even.link_seconds == 0 < placed.link_seconds


def test_predicted_step_counts_every_layer():
    made = planned()
    step = profile(recognised("qwen3-32b"), made.target, plan=made, lowered=lowered()).step
    once = {True: 0.0, False: 0.0}
    for priced in step.calls:
        once[priced.call.op.module.startswith("model.layers.0")] += priced.seconds
    assert step.seconds == pytest.approx(once[False] + 64 * once[True])
    assert [sum(step.by_op.values()), sum(step.by_value.values())] == pytest.approx([step.seconds] * 2)
    assert {"cost.gap", "cost.sharded_matmul.stream", "channel_bandwidth"} <= {f.name for f in step.rests_on}
    assert all(f.source != "source not given" for f in step.rests_on)


def test_a_step_takes_longer_with_more_users_and_longer_texts():
    one, all_users, full, both = (predicted(planned(), lowered(), load).seconds for load in loads(planned()))
    assert one < all_users < both and one < full < both


def test_json_is_plain_and_the_same_every_time(tmp_path):
    capture, target = tiny(tmp_path), targets.load("n150")
    first, second = (json.dumps(profile(c, target).to_json()) for c in (capture, tiny(tmp_path)))
    assert first == second
    data = json.loads(first)
    assert data["predicted"]["step"] is None
    assert all(bound["rests_on"] for bound in data["predicted"]["lower_bounds"])
    graph = nx.node_link_graph(data["graph"], edges="edges")
    assert nx.is_directed_acyclic_graph(graph)
    assert graph.nodes["attention"]["count"] == 4
    assert set(graph.edges["update_cache_0", "attention"]["values"]) == {"update_cache_0", "update_cache_1"}
    assert nx.has_path(graph, "input_ids", capture.graph.outputs[0])


def test_dot_is_quoted(tmp_path):
    text = profile(tiny(tmp_path), targets.load("n150")).to_dot()
    assert text.startswith("digraph ") and text.count('"') % 2 == 0
    assert re.search(
        r'"update_cache_0" -> "attention" \[label="float32\[3, 2, 16, \d+\]\\nfloat32\[3, 2, 16, \d+\]"\];', text
    )


@pytest.mark.parametrize("with_plan", [False, True])
def test_tables(with_plan):
    console = Console(width=200, record=True, file=StringIO())
    made = {"plan": planned(), "lowered": lowered()} if with_plan else {}
    for table in render(profile(recognised("qwen3-32b"), targets.load("galaxy"), **made)):
        console.print(table)
    text = console.export_text()
    assert "32.762 billion" in text and "attention" in text and "nothing ran on a device" in text
    assert ("Predicted step" in text) == with_plan


def test_a_plan_for_something_else_is_refused():
    with pytest.raises(ValueError, match="the plan is for galaxy at performance, not galaxy at accuracy"):
        profile(recognised("qwen3-32b"), targets.load("galaxy"), PRECISIONS["accuracy"], planned())
