"""Placements, collectives and strategies are right as mathematics; plans are consistent, deterministic and as good as known ones."""

from dataclasses import replace
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from spmd import collective, distribute, lies
from tiny import CONFIGS, compiled, folder_of, random_model

from fx2ttnn import pipeline, targets
from fx2ttnn import plan as planning
from fx2ttnn.capture import capture_decode, capture_prefill, load_config
from fx2ttnn.errors import UserError
from fx2ttnn.graph import interpret
from fx2ttnn.ir import Graph, Op, Placement, Ref, TensorSpec
from fx2ttnn.names import layer_of
from fx2ttnn.ops import COLLECTIVES, TABLE, Strategy
from fx2ttnn.ops.stored import columns, selected
from fx2ttnn.ops.table import whole as runs_whole
from fx2ttnn.plan.collectives import steps_between
from fx2ttnn.plan.device_shape import device_order, split_count
from fx2ttnn.plan.search import Search, rows_split
from fx2ttnn.plan.strategies import strategies
from fx2ttnn.recognise import recognise

MESHES = [(1, 1), (1, 2), (1, 8), (2, 4), (8, 4)]


@pytest.fixture(autouse=True)
def one_thread():
    """Tensors this small are slower on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# -- placements and collectives --------------------------------------------------------------------------------------


def test_a_dim_split_over_both_axes_is_split_over_axis_0_first():
    chips = distribute(torch.arange(8), Placement((0, 0)), (2, 4))
    assert [chips[row, column].item() for row in range(2) for column in range(4)] == list(range(8))


def test_placement_says_what_it_splits():
    placement = Placement((2, "P"))
    assert (placement.axes_of(2), placement.partial_axes, str(placement)) == ((0,), (1,), "(S2, P)")
    assert placement.on(1, 2) == Placement((2, 2))
    assert split_count(placement.on(1, 2), 2, (8, 4)) == 32


@st.composite
def moves(draw):
    """A shape, a mesh, and a placement to start from and one to end with."""
    mesh = draw(st.sampled_from(MESHES))
    rank = draw(st.sampled_from([3, 4]))
    shape = tuple(draw(st.sampled_from([1, 4, 32, 64, 96, 256])) for _ in range(rank))
    start = Placement(tuple(draw(st.sampled_from(["R", "P", *range(rank)])) for _ in mesh))
    goal = Placement(tuple(draw(st.sampled_from(["R", *range(rank), entry])) for entry in start.axes))
    for placement in (start, goal):
        for dim, size in enumerate(shape):
            if size % split_count(placement, dim, mesh):
                shape = (*shape[:dim], size * 32, *shape[dim + 1 :])
    return shape, mesh, start, goal


@given(moves())
@settings(max_examples=150, deadline=None)
def test_steps_turn_the_start_into_the_goal(move):
    """After each collective the data lies as the step says, and after the last as asked."""
    shape, mesh, start, goal = move
    spec = TensorSpec(shape)
    steps = steps_between(spec, device_order(spec, None), start, goal, mesh)
    if steps is None:
        return
    # The data may be smaller than the shape that was asked about: 32 divides by the chips of every mesh.
    whole = torch.randint(
        -50, 50, [32 if _split(dim, start, goal) else 2 for dim in range(len(shape))], dtype=torch.int32
    )
    chips = distribute(whole, start, mesh)
    for step in steps:
        chips = collective(chips, step.name, step.axis, step.dim)
        assert lies(chips, whole, step.after, mesh)
    assert (steps[-1].after if steps else start) == goal


def _split(dim, start, goal):
    return bool(start.axes_of(dim) or goal.axes_of(dim))


@given(moves())
@settings(max_examples=150, deadline=None)
def test_whole_values_can_be_made_from_any_placement(move):
    """To `R` everywhere there is always a way, unless rows or columns lie in parts of a tile."""
    shape, mesh, start, _ = move
    spec = TensorSpec(shape)
    order = device_order(spec, None)
    steps = steps_between(spec, order, start, Placement(("R", "R")), mesh)
    parts = [size // split_count(start, dim, mesh) for dim, size in enumerate(shape)]
    whole_tiles = all(parts[d] % 32 == 0 or not start.axes_of(d) for d in order[2:])
    assert (steps is not None) or not whole_tiles


def test_no_steps_where_nothing_changes():
    spec, here = TensorSpec((32, 1, 256)), Placement((2, "P"))
    assert steps_between(spec, device_order(spec, None), here, here, (8, 4)) == ()


@pytest.mark.parametrize("start", [("R", "R"), (0, "R"), (2, 2)])
def test_nothing_becomes_a_partial_sum(start):
    spec = TensorSpec((32, 1, 1024))
    assert steps_between(spec, device_order(spec, None), Placement(start), Placement(("P", "R")), (8, 4)) is None


# -- strategies ------------------------------------------------------------------------------------------------------


def _linear(x, weight, bias=None):
    return F.linear(x, weight, bias)


def _rotary(x, cos, sin):
    first, second = x.chunk(2, dim=-1)
    return x * cos.unsqueeze(1) + torch.cat((-second, first), dim=-1) * sin.unsqueeze(1)


def _attention(q, k, v):
    """[B, H, 1, D] over [B, Hkv, L, D] -> [B, 1, H, D]."""
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    return ((q @ k.transpose(-1, -2)).softmax(-1) @ v).transpose(1, 2)


def _split_heads(x):
    return x.unflatten(-1, (-1, 8)).transpose(1, 2)


# op -> function of one chip, shapes of the values, and which of them are weights
CASES = {
    "linear": (_linear, [(4, 1, 16), (32, 16)], [1]),
    "linear with bias": (_linear, [(4, 1, 16), (32, 16), (32,)], [1, 2]),
    "rms_norm": (lambda x, w: F.rms_norm(x, w.shape, w), [(4, 1, 16), (16,)], [1]),
    "rms_norm of heads": (lambda x, w: F.rms_norm(x, w.shape, w), [(4, 4, 1, 8), (8,)], [1]),
    "layer_norm": (lambda x, w, b: F.layer_norm(x, w.shape, w, b), [(4, 1, 16), (16,), (16,)], [1, 2]),
    "layer_norm of heads": (lambda x, w: F.layer_norm(x, w.shape, w), [(4, 4, 1, 8), (8,)], [1]),
    "multiply_heads": (lambda x, w: x * w.unsqueeze(1), [(4, 4, 4, 8), (4, 8)], [1]),
    "embedding": (lambda ids, w: F.embedding(ids, w), [(4, 1), (64, 16)], [1]),
    "split_heads": (_split_heads, [(4, 1, 32)], []),
    "concat_heads": (lambda x: x.flatten(2), [(4, 1, 4, 8)], []),
    "rotary": (_rotary, [(4, 4, 1, 8), (4, 1, 8), (4, 1, 8)], []),
    "scale_positions": (lambda x, factors: x * factors.unsqueeze(1), [(4, 4, 1, 8), (4, 1, 8)], []),
    "update_cache": (lambda k, v: (F.pad(k, (0, 0, 0, 5)), F.pad(v, (0, 0, 0, 5))), [(4, 4, 1, 8), (4, 4, 1, 8)], []),
    "attention": (_attention, [(4, 8, 1, 8), (4, 4, 6, 8), (4, 4, 6, 8)], []),
    "position_table": (lambda ids: ids.unsqueeze(-1).double().expand(-1, -1, 8).cos(), [(4, 1)], []),
    "add": (torch.add, [(4, 1, 16), (4, 1, 16)], []),
    "glu": (lambda gate, up: F.silu(gate) * up, [(4, 1, 16), (4, 1, 16)], []),
    "activation": (F.gelu, [(4, 1, 16)], []),
    "activation of a number": (lambda x, a: torch.where(x > 0, a * x, x), [(4, 1, 16), (1,)], [1]),
    "scale": (lambda x: 0.5 * x, [(4, 1, 16)], []),
    "last_tile": (lambda x: x[:, 2:], [(4, 4, 16)], []),
    "router_logits": (_linear, [(4, 1, 16), (8, 16)], [1]),
    "glu of one": (lambda gate, up: F.silu(gate) * up, [(4, 1, 1), (4, 1, 16)], []),
    "topk": (lambda x: tuple(x.topk(2)), [(4, 1, 8)], []),
    "softmax": (lambda x: x.softmax(-1), [(4, 1, 8)], []),
    "renormalize": (lambda x: x / x.sum(-1, keepdim=True), [(4, 1, 8)], []),
    "gather": (lambda x, index: x.gather(-1, index.abs().long() % 8), [(4, 1, 8), (4, 1, 2)], []),
    "add_vector": (torch.add, [(4, 1, 8), (8,)], [1]),
    "multiply_vector columns": (torch.mul, [(4, 2, 8), (8,)], [1]),
    "multiply_vector number": (torch.mul, [(4, 2, 8), (1,)], [1]),
    "multiply_chosen": (lambda x, index, w: x * w[index.abs().long() % 8], [(4, 1, 2), (4, 1, 2), (8,)], [2]),
    "sparse_mixer_mask": (lambda y, x, best: y.where(best - x < 1, -9), [(4, 1, 8), (4, 1, 8), (4, 1, 1)], []),
    "mask_selected": (lambda x, index: x.scatter(-1, index.abs().long() % 8, -9), [(4, 1, 8), (4, 1, 2)], []),
    "concat": (lambda x, y: torch.cat([x, y], -1), [(4, 1, 2), (4, 1, 2)], []),
    "limit_to_groups": (lambda x: x.where(x > x.mean(-1, keepdim=True), -9), [(4, 1, 8)], []),
    "scatter_routing": (
        lambda index, weights, logits: torch.zeros_like(logits).scatter(-1, index.abs().long() % 8, weights),
        [(4, 1, 2), (4, 1, 2), (4, 1, 8)],
        [],
    ),
}
# A chip takes the weights of the experts, or heads, whose columns it holds, or the slopes of its heads: no function of its own part
# alone; test_moe.py and test_alibi.py have it.
UNTESTED = {"scale_by_routing", "scale_both_by_routing", "scale_heads", "add_slopes"}


def _strategies(case):
    _, shapes, weights = CASES[case]
    specs = {f"v{i}": TensorSpec(shape) for i, shape in enumerate(shapes)}
    outputs = ("out", "out_2") if case in ("update_cache", "topk") else ("out",)
    op = Op(case.split()[0], tuple(map(Ref, specs)), outputs)
    graph = Graph("g", tuple(specs), outputs, (op,), specs, {f"v{i}": f"v{i}" for i in weights})
    return strategies(graph, op)


@pytest.mark.parametrize("case", CASES)
def test_strategy_is_right(case):
    """Split as the strategies of both axes say, every chip on its own computes its part of the whole result."""
    torch.manual_seed(0)
    function, shapes, _ = CASES[case]
    indices = case in ("embedding", "position_table")
    values = [
        torch.randint(0, 64, s) if indices and i == 0 else torch.randn(s, dtype=torch.double)
        for i, s in enumerate(shapes)
    ]
    whole = _outputs(function(*values))
    mesh, tested = (2, 2), 0
    for ways in product(_strategies(case), repeat=2):
        inputs = [Placement(tuple(way.inputs[i] for way in ways)) for i in range(len(shapes))]
        if case in ("rms_norm", "layer_norm") and inputs[0].axes_of(2):
            continue  # the chips exchange statistics: no function of one chip
        if any(
            s % split_count(p, d, mesh) for p, shape in zip(inputs, shapes, strict=True) for d, s in enumerate(shape)
        ):
            continue
        chips = [distribute(v, p, mesh) for v, p in zip(values, inputs, strict=True)]
        results = {at: _outputs(function(*(c[at] for c in chips))) for at in chips[0]}
        for i, expected in enumerate(whole):
            out = Placement(tuple(way.outputs[i] for way in ways))
            assert lies({at: r[i] for at, r in results.items()}, expected, out, mesh), (inputs, out)
        tested += 1
    assert tested >= 4


def _outputs(result):
    return result if isinstance(result, tuple) else (result,)


def test_every_strategy_is_tested():
    elsewhere = {"create_qkv_heads"} | UNTESTED  # the first below, in whole plans
    assert {name for name, entry in TABLE.items() if entry.split is not runs_whole} == {
        c.split()[0] for c in CASES
    } | elsewhere


def test_an_unknown_op_runs_whole():
    op = Op("aten.sort.default", (Ref("x"),), ("out",))
    graph = Graph("g", ("x",), ("out",), (op,), {"x": TensorSpec((4, 1, 8))})
    assert strategies(graph, op) == [Strategy(("R",), ("R",))]


# -- whole plans -----------------------------------------------------------------------------------------------------


def mesh_of(shape):
    return replace(targets.load("galaxy"), mesh_shape=shape)


RESIDUALS = [("R", "R"), ("R", 2), (2, "R"), (2, 2)]


@pytest.fixture
def scattered_heads(request, monkeypatch):
    """Where a test asks for it: a fused projection lies in two parts, its product is scattered further, heads are read in eight."""
    if not request.param:
        return
    allowed = Search._allowed

    def narrower(self, op, inputs, outputs):
        wanted = {"create_qkv_heads": (0, (2, 2)), "linear": (1, (0, 1))}.get(
            op.name if "heads" in op.attrs or "units" in op.attrs else ""
        )
        fits = wanted is None or inputs[wanted[0]].axes == wanted[1]
        return fits and allowed(self, op, inputs, outputs)

    monkeypatch.setattr(Search, "_allowed", narrower)


def planned(model, mesh, residual, monkeypatch):
    """A plan whose hidden state is forced to lie as `residual`, so that small models too need collectives."""
    monkeypatch.setattr(planning, "residual_placements", lambda target: [Placement(residual)])
    return planning.plan(_recognised(model), mesh_of(mesh))


def _recognised(model):
    config = load_config(str(folder_of(model)), layers=1)
    return recognise(replace(capture_decode(config, batch=32, max_seq_len=16), users=32))


MODELS = [("qwen3", (2, 4)), ("qwen2", (4, 2)), ("llama", (1, 4))]
SIMULATED = [(m, mesh, r, False) for m, mesh in MODELS for r in RESIDUALS if mesh[0] > 1 or r[0] == "R"]
SIMULATED += [("llama_mha", (2, 4), ("R", 2), True)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "mesh", "residual", "scattered_heads"), SIMULATED, indirect=["scattered_heads"], ids=str
)
def test_the_chips_together_compute_the_model(model, mesh, residual, scattered_heads, monkeypatch):
    """Every op of the plan on every chip of a simulated mesh, collectives in between: the logits are the model's."""
    plan = planned(model, mesh, residual, monkeypatch)
    weights = random_model(load_config(str(folder_of(model)), layers=1)).state_dict()
    ids, positions = torch.randint(0, 512, (32, 1)), torch.randint(0, 16, (32, 1))
    history = tuple(torch.randn(32, CONFIGS[model]["num_key_value_heads"], 16, 64) for _ in "kv")
    expected = reference(model, weights, ids, positions, history)
    chips = simulate(plan, weights, {"input_ids": ids, "position_ids": positions}, history)
    name = plan.graph.outputs[0]
    assert lies(chips[name], expected, plan.placements[name], mesh, tolerance=1e-3 * expected.abs().max().item())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "mesh", "residual", "scattered_heads"), SIMULATED, indirect=["scattered_heads"], ids=str
)
def test_the_chips_together_compute_a_prompt(model, mesh, residual, scattered_heads, monkeypatch):
    """The same for a chunk of a prompt, with weights and caches where decode holds them."""
    decode = planned(model, mesh, residual, monkeypatch)
    config = load_config(str(folder_of(model)), layers=1)
    capture = recognise(capture_prefill(config, tokens=64, max_seq_len=128))
    plan = planning.plan(capture, decode.target, decode=decode)
    held = {plan.graph.parameters[v]: plan.placements[v] for v in plan.graph.parameters if v in plan.placements}
    assert held == {
        decode.graph.parameters[v]: decode.placements[v] for v in decode.graph.parameters if v in decode.placements
    }
    weights = random_model(config).state_dict()
    inputs = {"input_ids": torch.randint(0, 512, (1, 64)), "position_ids": torch.arange(64, 128)[None]}
    history = tuple(torch.randn(1, CONFIGS[model]["num_key_value_heads"], 128, 64) for _ in "kv")
    expected = interpret.run(
        capture_prefill(config, tokens=64, max_seq_len=128).graph,
        {**inputs, **weights},
        {0: tuple(h.clone() for h in history)},
    )[0]
    chips = simulate(plan, weights, inputs, history)
    name = plan.graph.outputs[0]
    tolerance = 1e-3 * expected.abs().max().item()
    assert lies(chips[name], expected[:, 32:], plan.placements[name], mesh, tolerance=tolerance)


def reference(model, weights, ids, positions, history):
    """Logits of the captured graph, which other tests compare with Hugging Face's."""
    graph = capture_decode(load_config(str(folder_of(model)), layers=1), batch=32, max_seq_len=16).graph
    cache = {0: tuple(h.clone() for h in history)}
    return interpret.run(graph, {"input_ids": ids, "position_ids": positions, **weights}, cache)[0]


def simulate(plan, weights, inputs, history):
    """Every value of the planned graph on every chip."""
    mesh = plan.target.mesh_shape
    weights, history = as_stored(plan, weights, history)
    chips = {}
    for value, name in plan.graph.parameters.items():
        if value in plan.placements:
            chips[value] = distribute(weights[name], plan.placements[value], mesh)
    for value in plan.graph.inputs:
        chips[value] = distribute(
            inputs["input_ids" if value.startswith("input_ids") else "position_ids"], plan.placements[value], mesh
        )
    for op in plan.graph.ops:
        if "parts" in op.attrs:
            for held, values in enumerate(op.args[1:]):
                shares = [weights[plan.graph.parameters[v]].chunk(op.attrs["parts"]) for v in values]
                joined = torch.cat([share[part] for part in range(op.attrs["parts"]) for share in shares])
                chips[op.outputs[0], held] = distribute(joined, plan.placements[values[0]], mesh)
        if op.name in COLLECTIVES:
            chips[op.outputs[0]] = collective(chips[op.inputs[0]], op.name, op.attrs["axis"], op.attrs.get("dim"))
            continue
        for at in product(*map(range, mesh)):
            for out, result in zip(op.outputs, _outputs(_on_chip(plan, op, at, chips, inputs, history)), strict=True):
                chips.setdefault(out, {})[at] = result
    return chips


def as_stored(plan, weights, history):
    """Weights with the columns of their heads in the order in which the plan has them, and the keys of a history likewise."""
    stored, (keys, values) = dict(weights), history
    for op in plan.graph.ops:
        orders = op.attrs.get("orders") or (op.attrs.get("order"),)
        operands = op.args[1] if len(op.args) > 1 and isinstance(op.args[1], tuple) else op.args[1:2]
        if op.name in ("linear", "rms_norm") and any(orders):
            for value, order in zip(operands, orders, strict=True):
                name = plan.graph.parameters[value]
                stored[name] = selected(weights[name], None, order)
            if op.name == "linear":
                keys = keys[..., columns(orders[1])]
    return stored, (keys, values)


def _on_chip(plan, op, at, chips, inputs, history):
    mesh, places = plan.target.mesh_shape, plan.placements
    args = [None if isinstance(a, tuple) else chips[a][at] for a in op.args]
    match op.name:
        case "linear":
            fused = (
                [chips[op.outputs[0], held][at] for held in range(len(op.args) - 1)]
                if "parts" in op.attrs
                else args[1:]
            )
            return F.linear(args[0], *fused)
        case "create_qkv_heads":
            dim = op.attrs["head_dim"]
            kv = args[0].shape[-1] // dim * op.attrs["kv_heads"] // (op.attrs["heads"] + 2 * op.attrs["kv_heads"])
            heads = [
                p.unflatten(-1, (-1, dim)).transpose(1, 2)
                for p in args[0].split([args[0].shape[-1] - 2 * kv * dim, kv * dim, kv * dim], -1)
            ]
            return tuple(_own_users(h, places[op.inputs[0]], places[op.outputs[0]], at, mesh) for h in heads)
        case "rms_norm":
            if axes := places[op.inputs[0]].axes_of(2):
                squares = {k: v.pow(2).sum(-1, keepdim=True) for k, v in chips[op.inputs[0]].items()}
                for axis in axes:
                    squares = collective(squares, "all_reduce", axis)
                size = plan.graph.specs[op.inputs[0]].shape[-1]
                return args[0] * torch.rsqrt(squares[at] / size + op.attrs["eps"]) * args[1]
            return F.rms_norm(args[0], args[1].shape, args[1], op.attrs["eps"])
        case "update_cache":
            place = places[op.outputs[0]]
            caches = [distribute(h, place, mesh)[at].clone() for h in history]
            at_rows = _positions(inputs, place, mesh)[at]
            for cache, new in zip(caches, args, strict=True):
                cache[torch.arange(len(at_rows))[:, None], :, at_rows] = new.transpose(1, 2)
            return tuple(caches)
        case "attention":
            q, k, v = args
            groups = q.shape[1] // k.shape[1]
            k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
            seen = torch.arange(k.shape[2]) <= _positions(inputs, places[op.inputs[0]], mesh)[at][:, None, :, None]
            scores = (q @ k.transpose(-1, -2) * op.attrs["scaling"]).masked_fill(~seen, -torch.inf)
            return (scores.softmax(-1) @ v).transpose(1, 2)
        case "last_tile":
            return args[0][:, -32:]
        case "rotary":
            return TABLE["rotary"].compute(None, op, args)
        case "position_table":
            return interpret.run(op.attrs["table"], {"position_ids": args[0]}, {})[0]
        case _:
            return CASES[op.name][0](*args)


def _positions(inputs, placement, mesh):
    """Positions of the users that each chip holds."""
    users = Placement(tuple(0 if entry == 0 else "R" for entry in placement.axes))
    return distribute(inputs["position_ids"], users, mesh)


def _own_users(heads, before, after, at, mesh):
    for axis, (old, new) in enumerate(zip(before.axes, after.axes, strict=True)):
        if old == "R" and new == 0:
            heads = heads.chunk(mesh[axis], 0)[at[axis]]
    return heads


def consistent(plan):
    """Asserts that each op reads values made before it, lying in a way its mathematics allows."""
    graph, made = plan.graph, {*plan.graph.inputs, *plan.graph.parameters}
    for op in graph.ops:
        assert set(op.inputs) <= made, f"{op} reads what no op made"
        made |= set(op.outputs)
        inputs = [plan.placements[v] for v in op.inputs]
        outputs = [plan.placements[v] for v in op.outputs]
        if op.name in COLLECTIVES:
            axis = op.attrs["axis"]
            assert [i for i, (a, b) in enumerate(zip(inputs[0].axes, outputs[0].axes, strict=True)) if a != b] == [axis]
            continue
        for axis, n in enumerate(plan.target.mesh_shape):
            used = Strategy(tuple(p.axes[axis] for p in inputs), tuple(p.axes[axis] for p in outputs))
            assert used in (strategies(graph, op) if n > 1 else strategies(graph, op)[:1]), f"{op}: {used}"
    attentions = [op for op in graph.ops if op.name == "attention"]
    assert len({rows_split(plan.placements[op.inputs[0]]) for op in attentions}) == 1, "the page table is the model's"
    written = {out for op in graph.ops if op.name == "update_cache" for out in op.outputs}
    assert {v for op in attentions for v in op.inputs[1:3]} <= written, "a cache is read where it was written"
    tables = {v for op in graph.ops if op.name == "position_table" for v in op.outputs}
    layer_made = {v: layer_of(op.module) for op in graph.ops for v in op.outputs if v not in tables}
    for op in graph.ops:
        crossing = [
            v
            for v in op.inputs
            if layer_of(op.module) and layer_made.get(v, layer_of(op.module)) != layer_of(op.module)
        ]
        assert all(plan.placements[v] == plan.residual for v in crossing), f"{op} reads what other layers do not get"
    assert set(graph.outputs) <= made
    assert all(not plan.placements[o].partial_axes for o in graph.outputs)
    assert all(seconds > 0 for seconds in plan.seconds.values())


@pytest.mark.parametrize(
    ("model", "target"),
    [("qwen3", "n150"), ("qwen2", "n300"), ("llama", "t3k"), ("llama_tied", "galaxy"), ("qwen3_galaxy", "galaxy")],
)
def test_plan_is_consistent(model, target):
    consistent(compiled(model, target).plan)


def test_a_cache_stays_where_it_is_written():
    """Norms over all heads before attention: users are divided behind them, and the cache must be as well."""
    compiled = pipeline.compile_model(pipeline.Options("olmo-3-32b", "galaxy", layers=4))
    consistent(compiled.plan)
    assert compiled.complete


def test_a_layer_reads_of_others_only_what_lies_as_between_layers():
    """The embedding of a prompt is whole before it is split as between layers: the first layer must not read it whole."""
    consistent(pipeline.compile_model(pipeline.Options("phi-3-mini-4k", "galaxy", layers=2)).program.prefill_plan)


@pytest.mark.slow
@pytest.mark.parametrize("residual", RESIDUALS, ids=str)
def test_plan_with_any_residual_is_consistent(residual, monkeypatch):
    plan = planned("qwen3", (2, 4), residual, monkeypatch)
    consistent(plan)
    assert plan.residual == Placement(residual)


def test_plan_is_deterministic():
    """Also where the two searches start from graphs of separate captures."""
    first = compiled("qwen3_galaxy", "galaxy")
    assert str(planning.plan(first.recognised, first.plan.target)) == str(first.plan)


@pytest.fixture(scope="module")
def qwen3_32b():
    return pipeline.compile_model(pipeline.Options("qwen3-32b", "galaxy")).plan


@pytest.mark.slow
def test_qwen3_32b_on_galaxy_lies_as_the_hand_written_model(qwen3_32b):
    """The tensor-parallel plan that engineers chose for the same model and machine follows from the cost model."""
    plan = qwen3_32b
    by_op = {}
    for op in plan.graph.ops:
        by_op.setdefault(op.name, op)
    place = plan.placements
    assert plan.residual == Placement(("R", 2))  # hidden size over the 4 columns
    assert place[by_op["attention"].inputs[0]] == Placement((1, 0))  # query heads over the rows, users over the columns
    assert place[by_op["update_cache"].outputs[0]] == Placement((1, 0))
    wqkv = by_op["linear"].inputs[1:]
    assert len(wqkv) == 3
    assert {place[w] for w in wqkv} == {Placement((0, 1))}  # [N, K]: N over the rows, K over the columns
    names = {
        plan.graph.parameters[v].removeprefix("model.layers.0."): place[v] for v in plan.graph.parameters if v in place
    }
    assert names["self_attn.o_proj.weight"] == Placement((1, 0))
    assert names["model.embed_tokens.weight"] == Placement(("R", 1))
    assert names["self_attn.q_norm.weight"] == Placement(("R", "R"))
    assert plan.device_shape(by_op["attention"].inputs[0]) == (1, 8, 8, 128)  # 8 users, 8 heads
    consistent(plan)


@pytest.mark.slow
def test_qwen3_32b_fits_the_chips_of_a_galaxy(qwen3_32b):
    total = sum(qwen3_32b.dram.values())
    parameters = 32.8e9 * 1088 / 1024 / 32  # bytes a chip if every weight were split over all chips
    assert 0.9 * parameters < total < 12e9
    users = 8 + 1  # of a column, and the spare pages of a prefill
    assert qwen3_32b.dram["cache"] == 64 * 2 * users * 4096 * 128 * 1088 // 1024


def test_too_large_a_model_names_the_way_out():
    with pytest.raises(UserError, match=r"llama-3.3-70b needs .* GB .* n150 .*: use a target with more chips"):
        pipeline.compile_model(pipeline.Options("llama-3.3-70b", "n150"))


def test_too_long_a_cache_names_a_length_that_fits():
    with pytest.raises(UserError, match=r"a --max-seq-len of (\d+) would fit") as error:
        pipeline.compile_model(pipeline.Options("qwen3-8b", "n150", max_seq_len=40960))
    length = int(str(error.value).split("--max-seq-len of ")[1].split()[0])
    fitting = pipeline.compile_model(pipeline.Options("qwen3-8b", "n150", max_seq_len=length))
    assert sum(fitting.plan.dram.values()) <= 12e9
    with pytest.raises(UserError):
        pipeline.compile_model(pipeline.Options("qwen3-8b", "n150", max_seq_len=length + 64))


def test_fewer_users_need_less_cache():
    full, one = compiled("llama", "n150"), compiled("llama", "n150", batch=1)
    assert full.plan.dram["cache"] == 32 * one.plan.dram["cache"]
    assert full.plan.dram["weights"] == one.plan.dram["weights"]


def test_the_first_layers_are_planned_as_the_whole_model():
    """Else whoever shortens a model to look for a mistake looks at another program."""
    whole = pipeline.compile_model(pipeline.Options("qwen3-32b", "galaxy")).plan
    head = pipeline.compile_model(pipeline.Options("qwen3-32b", "galaxy", layers=2)).plan
    assert head.residual == whole.residual
    assert [(str(op), head.placements[op.outputs[0]]) for op in head.graph.ops] == [
        (str(op), whole.placements[op.outputs[0]]) for op in whole.graph.ops
    ]


def test_alternatives_begin_with_the_plan_and_differ():
    """None is cheaper than the plan that was taken; each lies otherwise or has other collectives."""
    plan = compiled("qwen3_galaxy", "galaxy").plan
    first, *others = plan.alternatives
    assert first.residual == str(plan.residual)
    assert others and all(other.seconds >= first.seconds for other in others)
    assert len({(a.residual, a.collectives, *a.matmuls.values()) for a in plan.alternatives}) == len(plan.alternatives)
    placed = {op.module: str(plan.placements[op.outputs[0]]) for op in plan.graph.ops if op.name == "linear"}
    assert first.matmuls.items() <= placed.items()
    collectives = sum(
        op.name in ("all_reduce", "all_gather", "reduce_scatter")
        for op in plan.graph.ops
        if op.module.startswith("model.layers.0")
    )
    assert collectives <= first.collectives
