"""What the patterns make of ATen ops, and that the recognised graph computes what Hugging Face's model computes."""

import pytest
import torch
import torch.nn.functional as F
from tiny import CONFIGS, compiled, config_of, random_model

from fx2ttnn.capture import capture_decode, interpret
from fx2ttnn.ir import Graph, Op, Ref, TensorSpec
from fx2ttnn.recognise import apply_patterns, fuse_projections, recognise
from fx2ttnn.recognise.tables import tabulate_positions


def graph_of(inputs, ops, parameters=(), outputs=None):
    """A graph from {name: shape} and (name, op, args, shape) rows; string arguments are values."""
    specs = {name: TensorSpec(shape) for name, shape in inputs.items()}
    specs |= {name: TensorSpec(shape) for name, _, _, shape in ops}
    made = tuple(Op(op, _refs(args, specs), (name,), {}, "m", (f"fx_{name}",)) for name, op, args, _ in ops)
    free = tuple(name for name in inputs if name not in parameters)
    return Graph("g", free, outputs or (ops[-1][0],), made, specs, {p: f"{p}.weight" for p in parameters})


def _refs(args, specs):
    return tuple(_refs(a, specs) if isinstance(a, tuple) else Ref(a) if a in specs else a for a in args)


def names(graph):
    return [op.name for op in graph.ops]


# -- rms_norm --------------------------------------------------------------------------------------------------------


def norm_rows(dims=(-1,), power=2, root="rsqrt", scaled="x", swapped=False, gain="w"):
    shape, small = (2, 1, 8), (2, 1, 1)
    return [
        ("square", "aten.pow.Tensor_Scalar", ("x", power), shape),
        ("mean", "aten.mean.dim", ("square", dims, True), small),
        ("shifted", "aten.add.Tensor", ("mean", 1e-6), small),
        ("inverse", f"aten.{root}.default", ("shifted",), small),
        ("scaled", "aten.mul.Tensor", ("inverse", scaled) if swapped else (scaled, "inverse"), shape),
        ("out", "aten.mul.Tensor", ("scaled", gain) if swapped else (gain, "scaled"), shape),
    ]


NORM_INPUTS = {"x": (2, 1, 8), "z": (2, 1, 8), "w": (8,), "g": (8,)}


@pytest.mark.parametrize("swapped", [False, True])
def test_rms_norm(swapped):
    (op,) = apply_patterns(graph_of(NORM_INPUTS, norm_rows(swapped=swapped), ("w",))).ops
    assert (op.name, op.args, op.outputs, op.attrs) == ("rms_norm", ("x", "w"), ("out",), {"eps": 1e-6})
    assert set(op.sources) == {"fx_square", "fx_mean", "fx_shifted", "fx_inverse", "fx_scaled", "fx_out"}


@pytest.mark.parametrize(
    "change",
    [{"dims": (1,)}, {"dims": (-1, -2)}, {"power": 3}, {"root": "sqrt"}, {"scaled": "z"}, {"gain": "g"}],
    ids=lambda change: next(iter(change.items())).__repr__(),
)
def test_not_an_rms_norm(change):
    """Another dim, exponent or root, another value that is scaled, a gain that is no parameter."""
    assert "rms_norm" not in names(apply_patterns(graph_of(NORM_INPUTS, norm_rows(**change), ("w",))))


def test_norm_whose_middle_is_read_elsewhere_keeps_it():
    """The mean is computed once more, for its other reader."""
    graph = graph_of(NORM_INPUTS, norm_rows(), ("w",), outputs=("out", "mean"))
    assert names(apply_patterns(graph)) == ["aten.pow.Tensor_Scalar", "aten.mean.dim", "rms_norm"]


# -- rotary ----------------------------------------------------------------------------------------------------------


def rotary_rows(half=4, dim=3, swapped=False, negated="second", cat_dim=-1, sin_at=1, first_start=0, size=8):
    shape, part = (2, 3, 1, size), (2, 3, 1, size // 2)
    pieces = ("minus", "first") if not swapped else ("first", "minus")
    return [
        ("cos1", "aten.unsqueeze.default", ("cos", 1), (2, 1, 1, size)),
        ("sin1", "aten.unsqueeze.default", ("sin", sin_at), (2, 1, 1, size)),
        ("straight", "aten.mul.Tensor", ("x", "cos1"), shape),
        ("first", "aten.slice.Tensor", ("x", dim, first_start, half), part),
        ("second", "aten.slice.Tensor", ("x", dim, half, 2**63 - 1), part),
        ("minus", "aten.neg.default", (negated,), part),
        ("turned", "aten.cat.default", (pieces, cat_dim), shape),
        ("crossed", "aten.mul.Tensor", ("turned", "sin1"), shape),
        ("out", "aten.add.Tensor", ("straight", "crossed"), shape),
    ]


ROTARY_INPUTS = {"x": (2, 3, 1, 8), "cos": (2, 1, 8), "sin": (2, 1, 8)}


def test_rotary():
    (op,) = apply_patterns(graph_of(ROTARY_INPUTS, rotary_rows())).ops
    assert (op.name, op.args) == ("rotary", ("x", "cos", "sin"))


@pytest.mark.parametrize(
    "change",
    [
        {"swapped": True},
        {"negated": "first"},
        {"half": 2},
        {"dim": 1},
        {"cat_dim": 2},
        {"sin_at": 2},
        {"first_start": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_not_a_rotary(change):
    """Halves in the other order, the wrong half negated, a part that is no half, other dims."""
    assert "rotary" not in names(apply_patterns(graph_of(ROTARY_INPUTS, rotary_rows(**change))))


# -- the smaller patterns --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["silu", "gelu", "relu", "sigmoid", "tanh"])
@pytest.mark.parametrize("order", [("act", "up"), ("up", "act")])
def test_gated(activation, order):
    rows = [("act", f"aten.{activation}.default", ("gate",), (2, 1, 8)), ("out", "aten.mul.Tensor", order, (2, 1, 8))]
    (op,) = apply_patterns(graph_of({"gate": (2, 1, 8), "up": (2, 1, 8)}, rows)).ops
    assert (op.name, op.args, op.attrs) == ("gated", ("gate", "up"), {"activation": activation})


def test_activation_that_is_no_gate_stays():
    rows = [("act", "aten.silu.default", ("x",), (2, 1, 8)), ("out", "aten.mul.Tensor", ("act", 2.0), (2, 1, 8))]
    assert names(apply_patterns(graph_of({"x": (2, 1, 8)}, rows))) == ["aten.silu.default", "aten.mul.Tensor"]


@pytest.mark.parametrize("dims", [(1, 2), (2, 1)])
def test_split_heads_swaps_dims_1_and_2(dims):
    rows = [
        ("parts", "aten.view.default", ("x", (2, 1, -1, 4)), (2, 1, 3, 4)),
        ("out", "aten.transpose.int", ("parts", *dims), (2, 3, 1, 4)),
    ]
    found = apply_patterns(graph_of({"x": (2, 1, 12)}, rows))
    assert names(found) == (["split_heads"] if dims == (1, 2) else names(graph_of({"x": (2, 1, 12)}, rows)))
    if dims == (1, 2):
        assert found.ops[0].attrs == {"heads": 3, "head_dim": 4}


@pytest.mark.parametrize(
    ("before", "after"), [((2, 1, 12), (1, 2, 3, 4)), ((2, 6, 4), (2, 3, 2, 8)), ((24,), (2, 1, 3, 4))]
)
def test_other_views_split_no_heads(before, after):
    swapped = (after[0], after[2], after[1], after[3])
    rows = [("v", "aten.view.default", ("x", after), after), ("out", "aten.transpose.int", ("v", 1, 2), swapped)]
    assert names(apply_patterns(graph_of({"x": before}, rows))) == ["aten.view.default", "aten.transpose.int"]


@pytest.mark.parametrize(
    ("before", "after", "heads"),
    [((2, 1, 3, 4), (2, 1, 12), 3), ((2, 3, 1, 4), (2, 1, 12), None), ((2, 1, 12), (2, 12), None)],
)
def test_concat_heads(before, after, heads):
    """[B, S, H, D] -> [B, S, H * D], and no other view."""
    (op,) = apply_patterns(graph_of({"x": before}, [("out", "aten.view.default", ("x", after), after)])).ops
    assert (op.name, op.attrs.get("heads")) == (("concat_heads", heads) if heads else ("aten.view.default", None))


def test_linear_with_and_without_bias():
    inputs = {"x": (2, 1, 8), "w": (16, 8), "b": (16,)}
    plain = apply_patterns(graph_of(inputs, [("out", "aten.linear.default", ("x", "w"), (2, 1, 16))], ("w", "b"))).ops
    biased = apply_patterns(
        graph_of(inputs, [("out", "aten.linear.default", ("x", "w", "b"), (2, 1, 16))], ("w", "b"))
    ).ops
    assert [(o.name, o.args) for o in (*plain, *biased)] == [("linear", ("x", "w")), ("linear", ("x", "w", "b"))]


@pytest.mark.parametrize(("op", "args"), [("linear", ("x", "w")), ("embedding", ("w", "ids"))])
def test_a_computed_weight_is_no_parameter(op, args):
    graph = graph_of({"x": (2, 1, 8), "w": (16, 8), "ids": (2, 1)}, [("out", f"aten.{op}.default", args, (2, 1, 16))])
    assert names(apply_patterns(graph)) == [f"aten.{op}.default"]


@pytest.mark.parametrize("padding", [(), (0,)])
def test_embedding(padding):
    graph = graph_of(
        {"ids": (2, 1), "w": (16, 8)}, [("out", "aten.embedding.default", ("w", "ids", *padding), (2, 1, 8))], ("w",)
    )
    (op,) = apply_patterns(graph).ops
    assert (op.name, op.args) == ("embedding", ("ids", "w"))


@pytest.mark.parametrize(("other", "name"), [("y", "add"), (1.0, "aten.add.Tensor")])
def test_add_of_two_values(other, name):
    graph = graph_of({"x": (2, 1, 8), "y": (2, 1, 8)}, [("out", "aten.add.Tensor", ("x", other), (2, 1, 8))])
    assert names(apply_patterns(graph)) == [name]


def test_gelu_of_another_form_is_no_plain_gelu():
    """`gelu(x, approximate="tanh")` is another function; the attribute must not be lost."""
    graph = graph_of(
        {"gate": (2, 1, 8), "up": (2, 1, 8)},
        [("act", "aten.gelu.default", ("gate",), (2, 1, 8)), ("out", "aten.mul.Tensor", ("act", "up"), (2, 1, 8))],
    )
    first = Op("aten.gelu.default", (Ref("gate"),), ("act",), {"approximate": "tanh"}, "m")
    found = apply_patterns(graph.with_ops((first, graph.ops[1])))
    assert names(found) == ["aten.gelu.default", "aten.mul.Tensor"]


def test_scaled_add_is_no_add():
    """`add(x, y, alpha=2)` is another function."""
    graph = graph_of({"x": (2, 1, 8), "y": (2, 1, 8)}, [("out", "aten.add.Tensor", ("x", "y"), (2, 1, 8))])
    scaled = Op("aten.add.Tensor", (Ref("x"), Ref("y")), ("out",), {"alpha": 2}, "m")
    (op,) = apply_patterns(graph.with_ops((scaled,))).ops
    assert op.name == "aten.add.Tensor"


def test_norm_of_heads_goes_behind_the_split():
    """transpose(norm(view(x))) -> norm(split_heads(x))."""
    shape = (2, 1, 3, 8)
    rows = [("x", "aten.view.default", ("h", shape), shape)]
    rows += [(n, o, a, shape if s == (2, 1, 8) else (2, 1, 3, 1)) for n, o, a, s in norm_rows()]
    rows += [("heads", "aten.transpose.int", ("out", 1, 2), (2, 3, 1, 8))]
    found = apply_patterns(graph_of({"h": (2, 1, 24), "w": (8,)}, rows, ("w",)))
    assert names(found) == ["split_heads", "rms_norm"]
    assert found.ops[1].outputs == ("heads",)
    assert found.specs[found.ops[0].outputs[0]].shape == (2, 3, 1, 8)


# -- fused projections -----------------------------------------------------------------------------------------------


def projections(key_reads="x", key_bias=False, shared=False):
    specs = {"x": (2, 1, 8), "y": (2, 1, 8), "q": (2, 1, 16), "k": (2, 1, 8), "v": (2, 1, 8), "out": (2, 1, 4, 4)}
    specs |= {"wq": (16, 8), "wk": (8, 8), "wv": (8, 8), "bk": (8,), "extra": (2, 1, 8)}
    specs |= {"qh": (2, 4, 1, 4), "kh": (2, 2, 1, 4), "vh": (2, 2, 1, 4), "kc": (2, 2, 9, 4), "vc": (2, 2, 9, 4)}

    def op(name, args, out, **attrs):
        return Op(name, tuple(map(Ref, args)), out if isinstance(out, tuple) else (out,), attrs, f"layer.attn.{out}")

    ops = [
        op("linear", ("x", "wq"), "q"),
        op("split_heads", ("q",), "qh", heads=4, head_dim=4),
        op("linear", (key_reads, "wk", "bk") if key_bias else (key_reads, "wk"), "k"),
        op("split_heads", ("k",), "kh", heads=2, head_dim=4),
        op("linear", ("x", "wv"), "v"),
        op("split_heads", ("v",), "vh", heads=2, head_dim=4),
        op("update_cache", ("kh", "vh"), ("kc", "vc"), layer=0),
        op("attention", ("qh", "kc", "vc"), "out"),
    ]
    if shared:
        ops.append(op("add", ("k", "y"), "extra"))
    outputs = ("out", "extra") if shared else ("out",)
    parameters = {n: n for n in ("wq", "wk", "wv", "bk")}
    return Graph("g", ("x", "y"), outputs, tuple(ops), {n: TensorSpec(s) for n, s in specs.items()}, parameters)


def test_projections_are_fused():
    """Queries first; `widths` and `units` say what the parts are."""
    found = fuse_projections(projections())
    assert names(found) == ["linear", "create_qkv_heads", "update_cache", "attention"]
    linear, heads = found.ops[:2]
    assert linear.args == ("x", ("wq", "wk", "wv"))
    assert linear.attrs == {"widths": (16, 8, 8), "units": (4, 2, 2)}
    assert linear.module == "layer.attn"
    assert found.specs[linear.outputs[0]].shape == (2, 1, 32)
    assert heads.outputs == ("qh", "kh", "vh")
    assert heads.attrs == {"heads": 4, "kv_heads": 2, "head_dim": 4}


@pytest.mark.parametrize(
    "change", [{"key_reads": "y"}, {"key_bias": True}, {"shared": True}], ids=lambda c: next(iter(c))
)
def test_projections_that_differ_stay_apart(change):
    """Another input, a bias on one of them only, a projection that something else reads too."""
    graph = projections(**change)
    assert names(fuse_projections(graph)) == names(graph)


def test_fused_projections_of_a_model_with_biases():
    (fused,) = [op for op in compiled("qwen2").recognised.graph.ops if "units" in op.attrs]
    assert fused.attrs == {"widths": (512, 256, 256), "units": (8, 4, 4)}
    assert [len(group) for group in fused.args[1:]] == [3, 3]


# -- position tables -------------------------------------------------------------------------------------------------


def test_position_tables_equal_the_rotary_embedding():
    """The extracted graphs compute Hugging Face's cos and sin."""
    config = config_of("llama")
    tables = {op.attrs["stem"]: op for op in compiled("llama").recognised.graph.ops if op.name == "position_table"}
    positions = torch.arange(3, 35).reshape(32, 1)
    expected = random_model(config).model.rotary_emb(torch.zeros(1), positions)
    assert list(tables) == ["cos", "sin"]
    for op, wanted in zip(tables.values(), expected, strict=True):
        (found,) = interpret.run(op.attrs["table"], {"position_ids": positions}, {})
        assert torch.equal(found, wanted)


def test_what_depends_on_more_than_positions_is_no_table():
    rows = [("c", "aten.cos.default", ("position_ids",), (2, 1)), ("out", "aten.mul.Tensor", ("c", "x"), (2, 1))]
    found = tabulate_positions(graph_of({"position_ids": (2, 1), "x": (2, 1)}, rows))
    assert names(found) == ["position_table", "aten.mul.Tensor"]
    assert found.ops[0].outputs == ("c",)


# -- numbers ---------------------------------------------------------------------------------------------------------


def _linear(run, op, args):
    x, weights, *biases = args
    if not isinstance(weights, list):
        return F.linear(x, weights, *biases)
    return F.linear(x, torch.cat(weights), torch.cat(biases[0]) if biases else None)


def _heads(x, heads, dim):
    return x.reshape(*x.shape[:2], heads, dim).transpose(1, 2)


def _create_qkv_heads(run, op, args):
    heads, kv, dim = op.attrs["heads"], op.attrs["kv_heads"], op.attrs["head_dim"]
    parts = args[0].split([heads * dim, kv * dim, kv * dim], dim=-1)
    return tuple(_heads(part, n, dim) for part, n in zip(parts, (heads, kv, kv), strict=True))


def _rotary(run, op, args):
    x, cos, sin = args[0], args[1].unsqueeze(1), args[2].unsqueeze(1)
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin


def _rms_norm(run, op, args):
    return F.rms_norm(args[0], args[1].shape, args[1], op.attrs["eps"])


def _position_table(run, op, args):
    return interpret.run(op.attrs["table"], {"position_ids": args[0]}, {})[0]


RECOGNISED = {
    "linear": _linear,
    "rms_norm": _rms_norm,
    "rotary": _rotary,
    "gated": lambda run, op, args: getattr(F, op.attrs["activation"])(args[0]) * args[1],
    "add": lambda run, op, args: args[0] + args[1],
    "split_heads": lambda run, op, args: _heads(args[0], op.attrs["heads"], op.attrs["head_dim"]),
    "concat_heads": lambda run, op, args: args[0].flatten(2),
    "create_qkv_heads": _create_qkv_heads,
    "embedding": lambda run, op, args: F.embedding(args[0], args[1]),
    "position_table": _position_table,
}


@pytest.mark.parametrize("model_type", ["llama", "llama_tied", "qwen2", "qwen3"])
def test_recognised_graph_equals_the_model(model_type, monkeypatch):
    """Several steps through the cache; the second layer is folded, so it runs as the first with its own weights."""
    from transformers import DynamicCache

    for name, function in RECOGNISED.items():
        monkeypatch.setitem(interpret.OPS, name, function)
    config = config_of(model_type)
    graph = recognise(capture_decode(config, batch=3, max_seq_len=16)).graph
    assert [op.name for op in graph.ops].count("layer") == CONFIGS[model_type]["num_hidden_layers"] - 1
    assert not [op for op in graph.ops if op.name.startswith("aten.")]
    model = random_model(config)
    theirs, ours = DynamicCache(config=config), {}
    with torch.no_grad():
        for step in range(4):
            ids, positions = torch.randint(3, 512, (3, 1)), torch.full((3, 1), step)
            expected = model(input_ids=ids, position_ids=positions, past_key_values=theirs, use_cache=True).logits
            (logits,) = interpret.run(graph, {"input_ids": ids, "position_ids": positions, **model.state_dict()}, ours)
            assert expected.std() > 1e-2
            assert (logits - expected).abs().max() < 1e-4 * expected.abs().max(), f"step {step}"
