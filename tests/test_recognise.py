"""What the patterns make of ATen ops, and that the recognised graph computes what Hugging Face's model computes."""

from dataclasses import replace

import pytest
import torch
from recognised import assert_equals_model
from tiny import CONFIGS, compiled, config_of, random_model

from fx2ttnn.errors import CaptureError
from fx2ttnn.graph import interpret
from fx2ttnn.graph.dead_code import without_dead_code
from fx2ttnn.ir import Graph, Op, Ref, TensorSpec
from fx2ttnn.ops.stored import BESIDE, columns
from fx2ttnn.recognise.experts import place_experts
from fx2ttnn.recognise.heads import fuse_projections
from fx2ttnn.recognise.heads_first import heads_first
from fx2ttnn.recognise.last_tile import take_last_tile
from fx2ttnn.recognise.parts import part_name, split_linears
from fx2ttnn.recognise.patterns import apply_patterns
from fx2ttnn.recognise.rotary import align_heads
from fx2ttnn.recognise.rows import separate_rows
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


@pytest.mark.parametrize("added", [("w", 1.0), (1.0, "w")])
def test_norm_with_an_offset(added):
    """A gain of 1 + w."""
    rows = norm_rows(gain="one_plus")
    plus = ("one_plus", "aten.add.Tensor", added, (8,))
    (op,) = apply_patterns(graph_of(NORM_INPUTS, [*rows[:5], plus, rows[5]], ("w",))).ops
    assert (op.name, op.args, op.attrs) == ("rms_norm", ("x", "w"), {"eps": 1e-6, "offset": 1.0})


@pytest.mark.parametrize("given", [("w", "b"), ("w", "b", 1e-3), ("w",), ("w", None, 1e-3), (), (None, None, 1e-3)])
def test_layer_norm(given):
    """With and without weight, bias and epsilon; torch's own epsilon is 1e-5."""
    rows = [("out", "aten.layer_norm.default", ("x", (8,), *given), (2, 1, 8))]
    (op,) = apply_patterns(graph_of({"x": (2, 1, 8), "w": (8,), "b": (8,)}, rows, ("w", "b"))).ops
    vectors = tuple(v for v in given if isinstance(v, str))
    assert (op.name, op.args) == ("layer_norm", ("x", *vectors))
    assert op.attrs == {"eps": 1e-3 if len(given) == 3 else 1e-5}


@pytest.mark.parametrize("change", [{"shape": (1, 8)}, {"parameters": ("b",)}], ids=lambda c: next(iter(c)))
def test_not_a_layer_norm(change):
    """Over two dims; with a weight that is no parameter."""
    rows = [("out", "aten.layer_norm.default", ("x", change.get("shape", (8,)), "w", "b"), (2, 1, 8))]
    graph = graph_of({"x": (2, 1, 8), "w": (8,), "b": (8,)}, rows, change.get("parameters", ("w", "b")))
    assert names(apply_patterns(graph)) == ["aten.layer_norm.default"]


NORM_INPUTS = {"x": (2, 1, 8), "z": (2, 1, 8), "w": (8,), "g": (8,)}


@pytest.mark.parametrize("swapped", [False, True])
def test_rms_norm(swapped):
    (op,) = apply_patterns(graph_of(NORM_INPUTS, norm_rows(swapped=swapped), ("w",))).ops
    assert (op.name, op.args, op.outputs, op.attrs) == ("rms_norm", ("x", "w"), ("out",), {"eps": 1e-6})
    assert set(op.sources) == {"fx_square", "fx_mean", "fx_shifted", "fx_inverse", "fx_scaled", "fx_out"}


@pytest.mark.parametrize(
    "change",
    [{"dims": (1,)}, {"dims": (-1, -2)}, {"power": 3}, {"root": "sqrt"}, {"scaled": "z"}],
    ids=lambda change: next(iter(change.items())).__repr__(),
)
def test_not_an_rms_norm(change):
    """Another dim, exponent or root, another value that is scaled."""
    assert "rms_norm" not in names(apply_patterns(graph_of(NORM_INPUTS, norm_rows(**change), ("w",))))


def test_norms_without_weight():
    """What is no parameter is multiplied afterwards; a power of -0.5 is the root's inverse."""
    norm, product = apply_patterns(graph_of(NORM_INPUTS, norm_rows(gain="g"), ("w",))).ops
    assert (norm.name, norm.args, product.args) == ("rms_norm", ("x",), ("g", "scaled"))
    rows = [*norm_rows()[:3], ("inverse", "aten.pow.Tensor_Scalar", ("shifted", -0.5), (2, 1, 1)), norm_rows()[4]]
    (norm,) = apply_patterns(graph_of(NORM_INPUTS, rows)).ops
    assert (norm.name, norm.args, norm.attrs) == ("rms_norm", ("x",), {"eps": 1e-6})


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
    assert (op.name, op.args, op.attrs) == ("glu", ("gate", "up"), {"activation": activation})


def test_activation_that_is_no_gate():
    rows = [("act", "aten.silu.default", ("x",), (2, 1, 8)), ("out", "aten.mul.Tensor", ("act", 2.0), (2, 1, 8))]
    found = apply_patterns(graph_of({"x": (2, 1, 8)}, rows)).ops
    assert [(op.name, op.attrs) for op in found] == [("activation", {"function": "silu"}), ("scale", {"factor": 2.0})]


def test_a_quotient_by_a_constant_is_a_scale():
    (op,) = apply_patterns(graph_of({"x": (2, 1, 8)}, [("out", "aten.div.Tensor", ("x", 8.0), (2, 1, 8))])).ops
    assert (op.name, op.args, op.attrs) == ("scale", ("x",), {"factor": 0.125})


@pytest.mark.parametrize(("power", "name"), [(2, "relu_squared"), (3, "relu")])
def test_squared_relu(power, name):
    rows = [("r", "aten.relu.default", ("x",), (2, 1, 8)), ("out", "aten.pow.Tensor_Scalar", ("r", power), (2, 1, 8))]
    assert apply_patterns(graph_of({"x": (2, 1, 8)}, rows)).ops[0].attrs == {"function": name}


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


@pytest.mark.parametrize(("approximate", "found"), [("tanh", "gelu_tanh"), ("none", "gelu"), ("other", None)])
def test_forms_of_gelu(approximate, found):
    """`gelu(x, approximate="tanh")` is another function; the attribute must not be lost."""
    graph = graph_of(
        {"gate": (2, 1, 8), "up": (2, 1, 8)},
        [("act", "aten.gelu.default", ("gate",), (2, 1, 8)), ("out", "aten.mul.Tensor", ("act", "up"), (2, 1, 8))],
    )
    first = Op("aten.gelu.default", (Ref("gate"),), ("act",), {"approximate": approximate}, "m")
    *_, op = apply_patterns(graph.with_ops((first, graph.ops[1]))).ops
    assert (op.name, op.attrs) == (("glu", {"activation": found}) if found else ("aten.mul.Tensor", {}))


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
    graph = graph_of({"h": (2, 1, 24), "w": (8,)}, rows, ("w",))
    found = apply_patterns(heads_first(graph))
    assert names(found) == ["split_heads", "rms_norm"]
    assert found.ops[1].outputs == found.outputs
    assert found.specs[found.ops[0].outputs[0]].shape == (2, 3, 1, 8)


def test_a_weight_of_every_head_goes_behind_the_split():
    """transpose(w * norm(view(x))) -> multiply_heads(norm(split_heads(x)), w); without the transpose it stays a product."""
    shape = (2, 1, 3, 8)
    rows = [("x", "aten.view.default", ("h", shape), shape)]
    rows += [(n, o, a, shape if s == (2, 1, 8) else (2, 1, 3, 1)) for n, o, a, s in norm_rows()]
    heads = ("heads", "aten.transpose.int", ("out", 1, 2), (2, 3, 1, 8))
    inputs = {"h": (2, 1, 24), "w": (3, 8)}
    found = apply_patterns(heads_first(graph_of(inputs, [*rows, heads], ("w",))))
    assert names(found) == ["split_heads", "rms_norm", "multiply_heads"]
    assert found.ops[2].args[1] == "w"
    assert names(apply_patterns(heads_first(graph_of(inputs, rows, ("w",))))) == [
        "aten.view.default",
        "rms_norm",
        "aten.mul.Tensor",
    ]


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


# -- parts of a projection -------------------------------------------------------------------------------------------


def parts_of_a_linear(*takes, outputs=("first", "second"), view=False):
    """x -> linear [2, 1, 24] -> perhaps heads [2, 2, 1, 12] -> parts; and what reads them."""
    rows = [("y", "aten.linear.default", ("x", "w", "b"), (2, 1, 24))]
    if view:
        rows += [("v", "aten.view.default", ("y", (2, 1, 2, 12)), (2, 1, 2, 12))]
        rows += [("h", "aten.transpose.int", ("v", 1, 2), (2, 2, 1, 12))]
    graph = graph_of({"x": (2, 1, 8), "w": (24, 8), "b": (24,)}, [*rows, *takes], ("w", "b"), outputs=outputs)
    return without_dead_code(split_linears(apply_patterns(graph)))


def cut(name, start, stop, of="y", step=()):
    return (name, "aten.slice.Tensor", (of, 2, start, stop, *step), (2, 1, stop - start))


def test_parts_of_a_linear_are_linears_of_some_rows():
    found = parts_of_a_linear(cut("first", 0, 16), cut("second", 16, 24))
    assert [(op.name, op.outputs, op.attrs["rows"]) for op in found.ops] == [
        ("linear", ("first",), ((0, 16, 1),)),
        ("linear", ("second",), ((16, 24, 1),)),
    ]
    weights = [op.inputs[1:] for op in found.ops]
    assert [found.specs[w].shape for w, _ in weights] == [(16, 8), (8, 8)]
    assert [found.specs[b].shape for _, b in weights] == [(16,), (8,)]
    assert {found.parameters[w] for w, _ in weights} == {"w.weight"}


def test_parts_of_heads_are_heads_of_some_rows():
    """Query and key of each head side by side."""
    shape = (2, 2, 1, 6)
    takes = [
        ("first", "aten.slice.Tensor", ("h", 3, 0, 6), shape),
        ("second", "aten.slice.Tensor", ("h", 3, 6, 12), shape),
    ]
    found = parts_of_a_linear(*takes, view=True)
    assert names(found) == ["linear", "split_heads"] * 2
    assert [op.attrs["rows"] for op in found.ops[::2]] == [((0, 6, 2),), ((6, 12, 2),)]
    assert [(op.outputs, op.attrs) for op in found.ops[1::2]] == [
        (("first",), {"heads": 2, "head_dim": 6}),
        (("second",), {"heads": 2, "head_dim": 6}),
    ]


@pytest.mark.parametrize(
    ("takes", "outputs"),
    [
        ([cut("first", 0, 16), cut("second", 8, 24)], ("first", "second")),
        ([cut("first", 0, 16), ("second", "aten.relu.default", ("y",), (2, 1, 24))], ("first", "second")),
        ([cut("first", 0, 16), cut("second", 16, 24)], ("first", "second", "y")),
        ([cut("first", 0, 12, step=(2,)), cut("second", 16, 24)], ("first", "second")),
    ],
    ids=["they overlap", "one reads all of it", "it is a result", "every other column"],
)
def test_other_readers_keep_a_linear_whole(takes, outputs):
    assert "rows" not in parts_of_a_linear(*takes, outputs=outputs).ops[0].attrs


@pytest.mark.parametrize(
    ("leaf", "count", "expected"),
    [
        ("gate_up_proj", 2, ["gate_proj", "up_proj"]),
        ("qkv_proj", 3, ["q_proj", "k_proj", "v_proj"]),
        ("query_key_value", 3, ["query", "key", "value"]),
        ("Wqkv", 3, ["Wqkv_1", "Wqkv_2", "Wqkv_3"]),
    ],
)
def test_names_of_parts(leaf, count, expected):
    assert [part_name(leaf, index, count) for index in range(count)] == expected


# -- rotary embeddings of other forms ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "order",
    [
        (8, 4, "halves", 8),
        (8, 8, "neighbours", 8),
        (8, 4, "neighbours", 12),
        (12, 2, "halves", 16),
        (8, 8, "halves", 16),
        (8, 4, "swapped halves", 8),
    ],
)
def test_columns_that_rotate_together_lie_half_a_head_apart(order):
    head_dim, rotated, pairs, size = order
    found = columns(order)
    assert sorted(found) == [*range(head_dim), *[head_dim] * (size - head_dim)]
    partners = dict(zip(found[: size // 2], found[size // 2 :], strict=True))
    for first in range(0, rotated, 2) if pairs == "neighbours" else range(rotated // 2):
        second = first + (1 if pairs == "neighbours" else rotated // 2)
        assert partners[second if pairs == "swapped halves" else first] == (
            first if pairs == "swapped halves" else second
        )


def test_columns_that_rotate_together_lie_side_by_side():
    halves, beside = columns((8, 8, "halves", 8)), columns((8, 8, "halves" + BESIDE, 8))
    assert (halves, beside) == ([*range(8)], [0, 4, 1, 5, 2, 6, 3, 7])
    assert columns((6, 4, "neighbours" + BESIDE, 8)) == [0, 1, 2, 3, 4, 5, 6, 6]


def test_only_heads_behind_a_norm_of_each_turn_neighbours():
    """What norms and rotates in one operation wants them so; both modes read the same table and caches."""
    normed, plain = (compiled(model).recognised.graph.ops for model in ("qwen3", "llama"))
    assert [op.attrs for op in normed if op.name == "rotary"] == [{"beside": True}] * 2
    assert [op.attrs for op in plain if op.name == "rotary"] == [{}] * 2
    assert {op.attrs["orders"][0][2] for op in normed if op.name == "update_cache"} == {"halves" + BESIDE}


def test_projections_of_partly_rotated_heads():
    """Queries and keys change their order, values do not; keys are cached in the new order."""
    ops = compiled("phi").recognised.graph.ops
    (fused,) = [op for op in ops if "units" in op.attrs]
    order = (64, 32, "halves", 64)
    assert fused.attrs["orders"] == (order, order, None)
    assert {op.attrs.get("orders") for op in ops if op.name == "update_cache"} == {(order, None)}
    assert [op.attrs for op in ops if op.name == "rotary"] == [{}, {}]
    assert [op.attrs["stem"] for op in ops if op.name == "position_table"] == ["cos", "sin"]


def test_heads_of_no_whole_tiles_get_zeros():
    """Heads of 112 columns are 128 from the projections to the caches and the output projection; the means count 16 zeros more."""
    graph = compiled("qwen3_112").recognised.graph
    found = {op.name: op for op in graph.ops}
    order, plain = (112, 112, "halves, side by side", 128), (112, 112, "halves", 128)
    (output,) = [op for op in graph.ops if "input_order" in op.attrs]
    assert output.attrs["input_order"] == plain
    assert graph.specs[output.args[1]].shape == (256, 8 * 128)
    assert found["update_cache"].attrs["orders"] == (order, plain)
    assert [graph.specs[cache].shape[-1] for cache in found["update_cache"].outputs] == [128, 128]
    assert {op.attrs["eps"] for op in graph.ops if op.name == "rms_norm" and "order" in op.attrs} == {1e-6 * 112 / 128}
    assert found["attention"].attrs["scaling"] == 112**-0.5
    dram = {model: compiled(model).plan.dram["cache"] for model in ("qwen3", "qwen3_112")}
    assert dram["qwen3_112"] == dram["qwen3"] * 128 // 64


def test_a_layer_norm_of_heads_gets_no_zeros():
    """They would change its mean: such a model ends with a report."""
    result = compiled("phi_norms_80")
    assert "rotary" in {op.name for op, _ in result.lowered.unsupported}
    assert [op.attrs for op in result.recognised.graph.ops if op.name == "rotary"] == [{"rotated": 40}] * 2


@pytest.mark.parametrize("reader", ["query", "key"])
def test_another_reader_of_the_columns_keeps_their_order(reader):
    """A value that depends on the order of the columns: the rotary stays as it is, and no rule will take it."""
    graph = partly_rotated()
    read = next(op for op in graph.ops if op.name == "linear" and op.outputs[0] == reader)
    extra = Op("add", (Ref(read.outputs[0]), Ref(read.outputs[0])), ("extra",), {}, "m")
    graph = replace(graph, ops=(*graph.ops, extra), outputs=(*graph.outputs, "extra"))
    assert [op.attrs for op in align_heads(graph).ops if op.name == "rotary"] == [{"rotated": 32}] * 2
    assert [op.attrs for op in align_heads(partly_rotated()).ops if op.name == "rotary"] == [{}] * 2


def partly_rotated():
    """Query and key of one head of 64, of which 32 columns rotate."""
    table = Graph("t", ("position_ids",), ("angle",), (), {"angle": TensorSpec((2, 1, 32))})
    specs = {n: TensorSpec((2, 1, 64)) for n in ("x", "query", "key")} | {
        n: TensorSpec((2, 1, 32)) for n in ("cos", "sin")
    }
    specs |= {n: TensorSpec((2, 1, 1, 64)) for n in ("qh", "kh", "qr", "kr", "out")}
    specs |= {n: TensorSpec((2, 1, 9, 64)) for n in ("kc", "vc")} | {n: TensorSpec((64, 64)) for n in ("wq", "wk")}

    def op(name, args, *outs, **attrs):
        return Op(name, tuple(map(Ref, args)), outs, attrs, "m")

    ops = (
        *(op("position_table", ("position_ids",), n, stem=n, table=table) for n in ("cos", "sin")),
        *(op("linear", ("x", f"w{n[0]}"), n) for n in ("query", "key")),
        *(op("split_heads", (n,), f"{n[0]}h", heads=1, head_dim=64) for n in ("query", "key")),
        *(op("rotary", (f"{n}h", "cos", "sin"), f"{n}r", rotated=32) for n in "qk"),
        op("update_cache", ("kr", "x"), "kc", "vc", layer=0),
        op("attention", ("qr", "kc", "vc"), "out"),
    )
    return Graph("g", ("x", "position_ids"), ("out",), ops, specs, {"wq": "wq", "wk": "wk"})


# -- the last tile -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dims", "kept"), [((-1,), True), ((2,), True), ((1,), True), ((-1,), False), ((1, 2), True)])
def test_behind_the_layers_only_a_mean_of_columns_stays_in_its_row(dims, kept):
    """[1, 64, 8]: of a mean along the tokens, or one that drops a dim, not all is in the last tile."""
    shape = {((1,), True): (1, 1, 8), ((-1,), False): (1, 64), ((1, 2), True): (1, 1, 1)}.get((dims, kept), (1, 64, 1))
    rows = [("y", "aten.relu.default", ("x",), (1, 64, 8)), ("m", "aten.mean.dim", ("y", dims, kept), shape)]
    graph = graph_of({"x": (1, 64, 8)}, rows)
    graph = replace(graph, ops=(replace(graph.ops[0], module="model.layers.0"), *graph.ops[1:]))
    if kept and dims in ((-1,), (2,)):
        assert take_last_tile(graph).specs["m"].shape == (1, 32, 1)
    else:
        with pytest.raises(CaptureError, match="mixes tokens"):
            take_last_tile(graph)


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


@pytest.mark.parametrize("model_type", ["llama", "llama_tied", "qwen2", "qwen3"])
def test_recognised_graph_equals_the_model(model_type):
    """The second layer is folded."""
    graph = assert_equals_model(config_of(model_type))
    assert [op.name for op in graph.ops].count("layer") == CONFIGS[model_type]["num_hidden_layers"] - 1


# -- tokens in rows, and routers ------------------------------------------------------------------------------------


def router_rows(choice, weights, cap=False):
    """A linear on rows, scores, `choice` of two of 8 experts and their `weights`, read by experts; then a view back."""
    capped = [
        ("low", "aten.div.Tensor", ("logits", 30.0), (6, 8)),
        ("bent", "aten.tanh.default", ("low",), (6, 8)),
        ("capped", "aten.mul.Tensor", ("bent", 30.0), (6, 8)),
    ]
    return [
        ("rows", "aten.view.default", ("x", (6, 16)), (6, 16)),
        ("logits", "aten.linear.default", ("rows", "w"), (6, 8)),
        *(capped if cap else []),
        ("scores", "aten.softmax.int", ("capped" if cap else "logits", 1), (6, 8)),
        *choice,
        ("values", "aten.topk.default", ("best", 2), (6, 2)),
        *weights,
    ]


def with_index(graph):
    """topk has two outputs, which rows of `graph_of` cannot say."""
    specs = {**graph.specs, "index": TensorSpec((6, 2), "int64")}
    ops = tuple(replace(op, outputs=("values", "index")) if op.outputs == ("values",) else op for op in graph.ops)
    return replace(graph, ops=tuple(replace(op, args=_refs(op.args, specs)) for op in ops), specs=specs)


def placed(choice=(), weights=(), cap=False, best="scores", last="values"):
    shapes = {"x": (2, 3, 16), "w": (8, 16), "b": (8,), "up": (8, 32, 16), "down": (8, 16, 16)}
    rows = [
        tuple(tuple(best if a == "best" else a for a in part) if isinstance(part, tuple) else part for part in row)
        for row in router_rows(choice, weights, cap)
    ]
    graph = with_index(graph_of(shapes, rows, ("w", "b", "up", "down")))
    graph = replace(
        graph, parameters={**graph.parameters, "up": "m.experts.gate_up_proj", "down": "m.experts.down_proj"}
    )
    experts = Op("experts", tuple(map(Ref, ("rows", "index", last, "up", "down"))), ("mixed",), EXPERTS, "m.experts")
    back = Op("aten.view.default", (Ref("mixed"), (2, 3, 16)), ("out",), {}, "m")
    specs = {**graph.specs, "mixed": TensorSpec((6, 16)), "out": TensorSpec((2, 3, 16))}
    graph = replace(graph, ops=(*graph.ops, experts, back), specs=specs, outputs=("out",))
    return without_dead_code(place_experts(apply_patterns(separate_rows(graph))))


EXPERTS = {"transposed": False, "activation": "silu", "gate": "halves"}
MIXED = ["scatter_routing", "linear", "linear", "glu", "scale_by_routing", "linear"]


def test_a_router_on_rows_keeps_users_and_tokens_apart():
    graph = placed()
    assert names(graph) == ["router_logits", "softmax", "topk", *MIXED]
    assert all(graph.specs[value].shape[:2] == (2, 3) for op in graph.ops for value in op.outputs)


def test_a_router_with_capped_logits():
    """cap tanh(x / cap), as Grok has it."""
    assert names(placed(cap=True)) == ["router_logits", "scale", "activation", "scale", "softmax", "topk", *MIXED]


def test_the_share_of_the_chosen_is_a_softmax_of_the_chosen():
    share = [
        ("total", "aten.sum.dim_IntList", ("values", (1,), True), (6, 1)),
        ("share", "aten.div.Tensor", ("values", "total"), (6, 2)),
    ]
    graph = placed(weights=share, last="share")
    assert names(graph) == ["router_logits", "topk", "softmax", *MIXED]


def test_a_correction_is_for_the_choice_alone():
    choice = [("corrected", "aten.add.Tensor", ("scores", "b"), (6, 8))]
    weights = [
        ("chosen", "aten.gather.default", ("scores", 1, "index"), (6, 2)),
        ("total", "aten.sum.dim_IntList", ("chosen", (-1,), True), (6, 1)),
        ("safe", "aten.add.Tensor", ("total", 1e-20), (6, 1)),
        ("share", "aten.div.Tensor", ("chosen", "safe"), (6, 2)),
    ]
    graph = placed(choice, weights, best="corrected", last="share")
    assert names(graph) == ["router_logits", "softmax", "add_vector", "topk", "gather", "renormalize", *MIXED]
    assert next(op for op in graph.ops if op.name == "renormalize").attrs == {"eps": 1e-20}


@pytest.mark.parametrize("dim", [0, -2])
def test_what_mixes_tokens_reads_rows(dim):
    rows = [
        ("rows", "aten.view.default", ("x", (6, 16)), (6, 16)),
        ("logits", "aten.linear.default", ("rows", "w"), (6, 8)),
        ("mixed", "aten.softmax.int", ("logits", dim), (6, 8)),
    ]
    graph = separate_rows(graph_of({"x": (2, 3, 16), "w": (8, 16)}, rows, ("w",)))
    assert names(graph)[-2:] == ["aten.view.default", "aten.softmax.int"]
    values = {"x": torch.randn(2, 3, 16), "w.weight": torch.randn(8, 16)}
    (found,) = interpret.run(graph, values, {})
    assert torch.equal(found, (values["x"].reshape(6, 16) @ values["w.weight"].T).softmax(dim))
