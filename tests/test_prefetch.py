"""Weights that are prefetched: what is emitted, what ttnn says to it, its numbers and their order, and how long a step waits."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from suites import assert_passes, compiled, run_suite

from fx2ttnn import pipeline, targets
from fx2ttnn import plan as planning
from fx2ttnn.check import check
from fx2ttnn.cost.prefetching import waiting
from fx2ttnn.emulate.ops.matmul import _check_ring
from fx2ttnn.emulate.sub_devices import SubDevices
from fx2ttnn.emulate.tensor import EmulationError
from fx2ttnn.errors import UserError
from fx2ttnn.ir import PARTIAL, Graph, Op, Placement, Ref, TensorSpec
from fx2ttnn.lower.beside import not_beside, too_large
from fx2ttnn.lower.values import Enum
from fx2ttnn.lower.vocabulary import Vocabulary
from fx2ttnn.names import layer_of
from fx2ttnn.plan.collectives import Step
from fx2ttnn.plan.cost import Cost
from fx2ttnn.precision import PRECISIONS

FIELDS = {
    **tiny.CONFIGS["qwen3"],
    **{"hidden_size": 512, "intermediate_size": 1024, "num_attention_heads": 16, "num_key_value_heads": 8},
    **{"num_hidden_layers": 2, "head_dim": 64, "vocab_size": 2048},
}
MIXTURE = {
    **{**tiny.CONFIGS["qwen3_moe"], **FIELDS, "model_type": "qwen3_moe"},
    **{"num_experts": 64, "num_experts_per_tok": 4, "moe_intermediate_size": 256},
}
GALAXY = targets.load("galaxy")
# Put beside the tests of a mixture's package: routers whose scores are equal, or so far apart that an exponential alone has no room.
TIES = """
import pytest
import torch
import ttnn

from ... import model_config as cfg
from ...gate import Qwen3MoeTopKRouter
from ...mesh import from_mesh, to_mesh
from ...prefetcher import Prefetcher
from ...weights import Weights


@pytest.mark.parametrize(("different", "size"), [(1, 1.0), (8, 1.0), (8, 100.0), (64, 100.0)])
def test_shares(mesh_device, different, size):
    torch.manual_seed(0)
    weight = size * torch.randn(different, 512).bfloat16().repeat(64 // different, 1)
    weights = Weights(mesh_device, {"weight": weight})
    module = Qwen3MoeTopKRouter(mesh_device, weights)
    x = torch.randn(1, 1, 32, 512).bfloat16()
    given = to_mesh(mesh_device, x, (None, None), ttnn.bfloat16, memory_config=cfg.MOE_HIDDEN_STATES_MEMORY)
    with Prefetcher(mesh_device, weights.resources.global_circular_buffer(), [module.prefetched()]).running():
        found = from_mesh(mesh_device, module.decode_forward(given), (None, None)).float()[0, 0]
    best = (x.float() @ weight.float().T)[0, 0].topk(4).values.softmax(-1)
    torch.testing.assert_close(found.topk(4).values, best, rtol=0.02, atol=0.01)
    assert found.ne(0).sum(-1).le(4).all() and found.ge(0).all()
    if different < 64:  # the best are equal
        assert found.eq(0.25).sum(-1).eq(4).all()
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """A small Qwen3, which needs no prefetcher, but can have one."""
    return str(tiny.write_config(tmp_path_factory.mktemp("prefetched") / "small", FIELDS))


@pytest.fixture(scope="module")
def package(tmp_path_factory, model: str) -> Path:
    return compiled(tmp_path_factory.mktemp("package"), model, "galaxy", prefetch=True)


def lowered(model: str, prefetch: bool | None):
    return pipeline.compile_model(pipeline.Options(model, "galaxy", prefetch=prefetch)).lowered


def test_layers_read_prefetched_weights(package: Path) -> None:
    """In the order in which they are listed."""
    attention, mlp, decoder = ((package / f"{name}.py").read_text() for name in ("attention", "mlp", "decoder"))
    assert "return [self.qkv_proj, self.o_proj]" in attention
    assert "return [self.gate_proj, self.up_proj, self.down_proj]" in mlp
    assert "return [*self.self_attn.prefetched(), *self.mlp.prefetched()]" in decoder
    assert mlp.count("global_cb=self.global_cb.get()") == 3
    assert "DispatchCoreAxis.COL" in (package / "mesh.py").read_text()


def test_ttnn_accepts_it(package: Path) -> None:
    """Every module of a layer on the workers' sub-device, prompts on the whole grid."""
    report = check(package)
    assert report.ok, [finding.message for module in report.modules for finding in module.findings]
    (layer,) = [m for m in report.modules if m.path == "model.layers.0" and m.label == "decode"]
    assert layer.device_ops is not None and layer.device_ops.count("MatmulDeviceOperation") == 5


@pytest.fixture(scope="module")
def mixture(tmp_path_factory) -> str:
    return str(tiny.write_config(tmp_path_factory.mktemp("mixtures") / "mixture", MIXTURE))


def test_routers_keep_to_the_workers(mixture: str) -> None:
    """Of a mixture the router's weight and those of all experts are prefetched, and no call of a layer takes other cores."""
    found = lowered(mixture, True)
    read = [call.op.name for call in found.calls if "global_cb" in call.kwargs]
    assert read == ["linear", "linear", "router_logits", "linear", "linear", "linear"]
    assert not not_beside(found)
    told = {call.function for call in found.calls if "sub_core_grids" in call.kwargs}
    assert {"ttnn.topk", "ttnn.untilize", "ttnn.scatter", "ttnn.tilize", "ttnn.sum", "ttnn.div"} <= told


@pytest.mark.parametrize(
    "fields",
    [
        {"norm_topk_prob": False},  # probabilities of all experts, by ttnn's softmax
        {"num_experts": 32},  # less than ttnn.topk takes without filling up
    ],
)
def test_other_routers_go_without(tmp_path: Path, fields: dict) -> None:
    model = str(tiny.write_config(tmp_path / "other", {**MIXTURE, **fields}))
    with pytest.raises(UserError, match="--prefetch: ttnn.* of model.layers.0.mlp.* may take any core"):
        lowered(model, True)


def test_weights_that_fit_only_without() -> None:
    """A chip's part of the experts is too large for the prefetcher, and of all there is no room on a chip."""
    assert not any("global_cb" in call.kwargs for call in lowered("mixtral-8x7b", None).calls)
    with pytest.raises(UserError, match="GB of DRAM on each chip"):
        lowered("mixtral-8x7b", True)


@pytest.mark.slow
def test_a_mixture(tmp_path: Path, mixture: str) -> None:
    """Its router and experts against Hugging Face's, and ties; ttnn accepts all."""
    made = compiled(tmp_path, mixture, "galaxy", prefetch=True)
    (made / "tests/modules/test_ties.py").write_text(TIES)
    assert_passes(run_suite(made, *(f"tests/modules/test_{name}.py" for name in ("gate", "moe", "ties"))))
    report = check(made)
    assert report.ok, [finding.message for module in report.modules for finding in module.findings]


def test_the_widest_type_counts(model: str) -> None:
    """ttnn wants room for the largest weight as if its tiles were of the widest type of all."""
    found, ring = lowered(model, True), GALAXY.prefetcher
    largest = ring.slice_bytes(32, 32, 1088 / 1024)  # of 1024 columns, of which a chip has an eighth or more
    assert not too_large(found, replace(ring, buffer_bytes=largest))
    first = next(call.args[1] for call in found.calls if "global_cb" in call.kwargs)
    wide = replace(found, tensors={**found.tensors, first: replace(found.tensors[first], dtype="bfloat16")})
    needed = min(size for size in range(1, largest) if not too_large(found, replace(ring, buffer_bytes=size)))
    assert too_large(wide, replace(ring, buffer_bytes=needed))


@pytest.mark.slow
def test_numbers(package: Path) -> None:
    """A layer against Hugging Face's, its matmuls and its rotation alone, and steps call by call and replayed in three traces."""
    operations = [f"tests/ops/test_{name}.py" for name in ("matmul", "rotary_embedding_llama_fused_qk")]
    assert_passes(run_suite(package, "tests/modules/test_decoder.py", "tests/model/test_trace.py", *operations))


def test_small_models_go_without(model: str) -> None:
    """Without being asked: their weights are read in no time."""
    assert not any("global_cb" in call.kwargs for call in lowered(model, None).calls)
    assert any("global_cb" in call.kwargs for call in lowered(model, True).calls)


def test_what_cannot_keep_to_the_workers_is_told(tmp_path: Path) -> None:
    """Soft caps have attention composed of operations that take any core: by default such a model goes without, and an order is refused."""
    model = str(tiny.write_config(tmp_path / "capped", tiny.CONFIGS["gemma2"]))
    with pytest.raises(UserError, match="--prefetch: ttnn.* of model.layers.0.* may take any core"):
        lowered(model, True)
    assert not any("global_cb" in call.kwargs for call in lowered(model, None).calls)


def test_layers_of_several_kinds(tmp_path: Path) -> None:
    """Each kind has position tables of its own, which are handed on to the layers with the hidden state."""
    fields = {**tiny.CONFIGS["gemma3_text"], "num_attention_heads": 16, "num_key_value_heads": 8, "hidden_size": 512}
    package = compiled(tmp_path, str(tiny.write_config(tmp_path / "kinds", fields)), "galaxy", prefetch=True)
    step = (package / "model.py").read_text().partition("def decode_layers")[2].partition("def ")[0]
    assert step.count("= ttnn.to_memory_config(") == 5  # the hidden state and two pairs of tables


def test_sums_that_ttnn_fills_up_are_not_beside() -> None:
    """Of columns that are no whole tiles for each chip: on the mock, ttnn's filling up takes every core."""
    specs = {
        name: TensorSpec(shape) for name, shape in {"x": (32, 1, 8192), "w": (87808, 8192), "y": (32, 1, 87808)}.items()
    }
    op = Op("linear", (Ref("x"), Ref("w")), ("y",), {}, "model.layers.0.mlp.gate_proj")
    graph = Graph("decode", ("x",), ("y",), (op,), specs, {"w": "w"})

    def seconds(machine: targets.Target, rows: int) -> float:
        before = Placement((2, PARTIAL)) if rows == 0 else Placement((PARTIAL, 2))
        step = Step("all_reduce", 1 - rows, None, before.on(1 - rows, "R"))
        return Cost(graph, 32, machine, PRECISIONS["accuracy"]).step(step, "y", before)

    assert seconds(GALAXY.with_prefetcher(), 0) == inf  # 343 tiles, of four chips
    assert seconds(GALAXY.with_prefetcher(), 1) == inf  # 686 tiles, of eight
    assert seconds(GALAXY, 0) < inf > seconds(GALAXY, 1)


def test_whole_heads_lie_on_a_core(tmp_path: Path) -> None:
    """Where they are made of a matmul's result, whose columns lie over the ring as they come."""
    wide = {"hidden_size": 2560, "num_attention_heads": 20, "num_key_value_heads": 20, "head_dim": 128}
    found = lowered(str(tiny.write_config(tmp_path / "wide", {**tiny.CONFIGS["llama"], **wide})), True)
    (made,) = {c.inputs[0] for c in found.calls if c.function.endswith("nlp_create_qkv_heads_decode")}
    assert found.tensors[made].memory.shard == (32, 128)


def other(folder: Path, **fields: Any) -> str:
    """A model of tiny.py's sizes but for these fields, and for those of which other families have none."""
    common = {key: value for key, value in tiny.SIZES.items() if key not in ("head_dim", "num_key_value_heads")}
    return str(tiny.write_config(folder / "other", {**common, **fields}))


@pytest.mark.slow
def test_slopes_keep_to_the_workers(tmp_path: Path) -> None:
    model = other(tmp_path, model_type="bloom", hidden_size=2048, n_layer=2, n_head=32)
    package = compiled(tmp_path, model, "galaxy", prefetch=True)
    assert check(package).ok
    operations = [f"tests/ops/test_{name}.py" for name in ("nlp_create_qkv_heads_decode", "add", "multiply")]
    assert_passes(run_suite(package, *operations))


@pytest.mark.slow
def test_layer_norms_of_parts_keep_to_the_workers(tmp_path: Path, monkeypatch) -> None:
    """Where the planner divides the hidden state; besides it their layers are handed nothing, as positions are added to tokens."""
    monkeypatch.setattr(planning, "residual_placements", lambda target: [Placement(("R", 2))])
    sizes = {"hidden_size": 2048, "word_embed_proj_dim": 2048, "ffn_dim": 8192, "num_attention_heads": 32}
    options = pipeline.Options(other(tmp_path, model_type="opt", **sizes), max_seq_len=256, prefetch=True)
    pipeline.write_package(pipeline.compile_model(options), package := tmp_path / "package_of_opt")
    norm, model = ((package / f"{name}.py").read_text() for name in ("norm", "model"))
    assert "subdevice_id=cfg.WORKERS" in norm and "(hidden_states,) = self.decode_embed(" in model
    assert check(package).ok
    assert_passes(run_suite(package, "tests/modules/test_norm.py"))


def test_users_are_divided_where_all_have_no_room() -> None:
    """Queries and keys that rotate lie on 2 x 32 cores, of 50."""
    specs = {
        name: TensorSpec(shape)
        for name, shape in {"q": (32, 8, 1, 64), "cos": (32, 1, 64), "y": (32, 8, 1, 64)}.items()
    }
    op = Op("rotary", (Ref("q"), Ref("cos"), Ref("cos")), ("y",), {"beside": True}, "model.layers.0.self_attn")
    graph = Graph("decode", ("q", "cos"), ("y",), (op,), specs, {})
    whole, divided = Placement(("R", "R")), Placement((0, "R"))
    beside, alone = (Cost(graph, 32, machine, PRECISIONS["accuracy"]) for machine in (GALAXY.with_prefetcher(), GALAXY))
    assert beside.op(op, (whole,) * 3) == inf > beside.op(op, (divided,) * 3)
    assert alone.op(op, (whole,) * 3) < inf


def test_what_layers_read_is_not_partitioned_beside() -> None:
    """The first layer reads what the embedding gives; the other layers, which are planned with it, what a layer gives."""
    specs = {name: TensorSpec(shape) for name, shape in {"x": (32, 1, 256), "w": (256,), "y": (32, 1, 256)}.items()}
    op = Op("rms_norm", (Ref("x"), Ref("w")), ("y",), {"eps": 1e-6}, "model.layers.0.input_layernorm")
    graph = Graph("decode", ("x",), ("y",), (op,), specs, {"w": "w"})
    step = Step("mesh_partition", 1, 2, Placement(("R", 2)))
    beside, alone = (Cost(graph, 32, machine, PRECISIONS["accuracy"]) for machine in (GALAXY.with_prefetcher(), GALAXY))
    assert beside.step(step, "x", Placement(("R", "R"))) == inf > alone.step(step, "x", Placement(("R", "R")))


def test_a_plan_that_counts_the_stream_is_taken_where_it_is_faster() -> None:
    """With quick products the cheapest plan by its operations alone has weights on several chips, for which matmuls wait."""
    options = pipeline.Options("llama-3.3-70b", fidelity="LoFi", layers=2)
    assert pipeline.compile_model(options).plan.target.stream_share == pipeline.STREAM_SHARES[1]


def test_a_plan_that_fails_leaves_the_other(monkeypatch) -> None:
    """One that counts the stream may find no room for what it holds; the one that does not is there all the same."""
    whole = planning.plan

    def without_room(capture, target, *others, **how):
        if target.stream_share:
            raise UserError("no room")
        return whole(capture, target, *others, **how)

    monkeypatch.setattr(planning, "plan", without_room)
    options = pipeline.Options("llama-3.3-70b", fidelity="LoFi", layers=2)
    machine = pipeline.compile_model(options).plan.target
    assert (machine.prefetching, machine.stream_share) == (True, 0.0)


def test_a_machine_without_one(model: str) -> None:
    with pytest.raises(UserError, match="--prefetch: n150 has no cores for it"):
        pipeline.check_options(pipeline.Options(model, "n150", prefetch=True))


def test_an_interleaved_value_is_not_beside(model: str) -> None:
    """Of a layer, and of nothing else."""
    found = lowered(model, True)
    assert not not_beside(found)
    add = next(call for call in found.calls if call.function == "ttnn.add")
    moved = replace(
        found.tensors[add.outputs[0]], memory=replace(found.tensors[add.outputs[0]].memory, kind="interleaved")
    )
    assert add in not_beside(replace(found, tensors={**found.tensors, add.outputs[0]: moved}))
    made = next(call for call in found.calls if call.function == "ttnn.to_memory_config" and layer_of(call.op.module))
    of_ttnn = replace(made, kwargs={**made.kwargs, "memory_config": Enum("ttnn.L1_HEIGHT_SHARDED_MEMORY_CONFIG")})
    assert [of_ttnn] == not_beside(replace(found, calls=[of_ttnn]))


@given(count=st.integers(1, 50), behind=st.integers(0, 50))
def test_first_cores_keep_to_the_workers(count: int, behind: int) -> None:
    """Each once, in order, none of a sender's column."""
    words = Vocabulary(GALAXY.with_prefetcher(), PRECISIONS["performance"], "decode")
    if count + behind > 50:
        with pytest.raises(ValueError, match="more than the grid's 50"):
            words.first_cores(count, behind)
        return
    every = _cores(words.first_cores(50))
    assert len(set(every)) == 50 and {x for x, _ in every} == {1, 2, 3, 5, 6}
    assert _cores(words.first_cores(count, behind)) == every[behind : behind + count]


def _cores(ranges) -> list[tuple[int, int]]:
    return [(x, y) for (x0, y0), (x1, y1) in ranges for y in range(y0, y1 + 1) for x in range(x0, x1 + 1)]


@pytest.mark.parametrize(
    ("ops", "room", "expected"),
    [
        ([(10.0, 0.0), (5.0, 1000.0)], 1000.0, 0.0),  # it has come while the first ran
        ([(10.0, 0.0), (5.0, 1000.0)], 200.0, 3.0),  # of which a fifth found room: 2 us at full speed, 6 us as it comes
        ([(5.0, 1000.0)], 1000.0, 5.0),  # nothing has come: as fast as the stream, 10 us
        ([(20.0, 1000.0)], 1000.0, 0.0),  # slower than the stream
        ([(5.0, 0.0)], 0.0, 0.0),
    ],
)
def test_waiting(ops: list[tuple[float, float]], room: float, expected: float) -> None:
    """At 100 bytes a microsecond."""
    assert waiting(ops, room, 100.0) == pytest.approx(expected)


@given(st.lists(st.tuples(st.floats(0.1, 50), st.floats(0, 5000)), min_size=1, max_size=8), st.floats(1, 1e4))
def test_waiting_is_bounded(ops: list[tuple[float, float]], room: float) -> None:
    """By what the stream takes for all; and more room never makes it longer."""
    found = waiting(ops, room, 100.0)
    assert -1e-6 <= found <= sum(size for _, size in ops) / 100 + 1e-6
    assert waiting(ops, 2 * room, 100.0) <= found + 1e-6


class _Weight:
    """A tensor as far as the order of prefetched weights goes."""

    def __init__(self, *numbers: int):
        self.value = torch.tensor([[[numbers]]])

    def buffer_address(self) -> int:
        return int(self.value.flatten()[0])


def streaming(*addresses: int):
    """Sub-devices that are loaded, with weights on their way to a buffer."""
    found, global_cb = SubDevices(), object()
    found.loaded = 1
    found.begin("ttnn.dram_prefetcher", ([_Weight(0), _Weight(*addresses)],), {"global_cb": global_cb})

    def read(address: int) -> None:
        found.begin("ttnn.matmul", (None, _Weight(address)), {"global_cb": global_cb})

    return found, read


def test_a_ring_leaves_its_result_where_the_weight_lies() -> None:
    """ttnn's host code takes other cores for it, and the vendor's kernels give other numbers then."""

    def lies(kind: str, grid: str | None) -> SimpleNamespace:
        return SimpleNamespace(
            buffer_type=SimpleNamespace(name=kind), shard_spec=SimpleNamespace(grid=grid) if grid else None
        )

    ring = SimpleNamespace(gather_in0=True)
    _check_ring(ring, lies("L1", "ring"), lies("L1", "ring"))
    _check_ring(ring, lies("DRAM", "banks"), lies("L1", "receivers"))
    _check_ring(None, lies("L1", None), lies("L1", None))
    for grid in ("receivers", None):
        with pytest.raises(EmulationError, match="where the weight lies"):
            _check_ring(ring, lies("L1", "ring"), lies("L1", grid))


def test_weights_are_read_in_order() -> None:
    """A card hangs, or multiplies by another weight."""
    found, read = streaming(7, 8)
    read(7)
    with pytest.raises(EmulationError, match="another one comes first"):
        read(7)
    found, read = streaming(7)
    with pytest.raises(EmulationError, match="1 prefetched weights were read by no matmul"):
        found.cleared()
    found, read = streaming(7)
    read(7)
    found.cleared()
    with pytest.raises(EmulationError, match="none is on its way"):
        read(7)
    with pytest.raises(EmulationError, match="without a sub-device manager"):
        found.begin("ttnn.dram_prefetcher", ([_Weight(0)],), {"global_cb": None})
