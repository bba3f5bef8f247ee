"""Plans that were made by hand beside a package's layer: aligned by what operations do, exact sums, one message for a bad file."""

import copy
import json
from dataclasses import replace

import pytest
from tiny import compiled, package

from fx2ttnn.cost.calls import Load
from fx2ttnn.profile.predicted import predicted
from fx2ttnn.report import data, hand_plan
from fx2ttnn.report.compare import compare
from fx2ttnn.report.compare_render import render
from fx2ttnn.report.device_ops import StepOps
from fx2ttnn.report.hand_plan import HandPlan, LayerOp
from fx2ttnn.report.roles import PARTS, parts_of

HAND = json.loads((hand_plan.FOLDER / "llama-3.3-70b.json").read_text())


@pytest.fixture(scope="module")
def report():
    return data.read(package("qwen3_galaxy", "galaxy"))


def layer_of(report):
    return next(part for part in report.graph["modes"]["decode"]["parts"] if part["layer"])


# -- plans -----------------------------------------------------------------------------------------------------------


def test_shipped_plans_are_what_was_published():
    plans = {name: hand_plan.load(name) for name in hand_plan.names()}
    assert list(plans) == ["llama-3.3-70b", "qwen3-32b"]
    llama, qwen = plans.values()
    assert (len(llama.layer), sum(op.count for op in qwen.layer)) == (16, 32)
    assert llama.layer_us == pytest.approx(166.65, abs=0.01)
    assert llama.layers * llama.layer_us + llama.tail_us == pytest.approx(llama.step_us, rel=0.005)
    assert all(op.time == "measured" for op in llama.layer)
    assert {op.time for op in qwen.layer} == {"measured", "target", "bound", "inferred"}


BROKEN = {
    "no JSON": ("{", "Invalid JSON", "line 1"),
    "too deep": ("[" * 100_000, "Invalid JSON"),
    "a list": ("[]", "Input should be an object"),
    "a field less": (json.dumps({k: v for k, v in HAND.items() if k != "users"}), "users is missing"),
    "a field more": (json.dumps(HAND | {"speed": 1}), "speed is no field of a plan"),
    "no layer": (json.dumps(HAND | {"layer": []}), "layer: "),
    "a strange part": (json.dumps(HAND | {"layer": [HAND["layer"][0] | {"parts": ["nose"]}]}), "'nose' is no part"),
    "a negative time": (json.dumps(HAND | {"layer": [HAND["layer"][0] | {"gap_us": -1}]}), "layer.0.gap_us"),
    "no number": (json.dumps(HAND | {"step_us": float("nan")}), "step_us"),
    "a text for a number": (json.dumps(HAND | {"users": "32"}), "users: "),
    "a strange target": (json.dumps(HAND | {"target": "n151"}), "unknown target 'n151'"),
    "too many users": (json.dumps(HAND | {"users": 33}), "has room for 32 users, not for 33"),
    "too many tokens": (json.dumps(HAND | {"context": 8192}), "has room for 4096 tokens of each, not for 8192"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_bad_plan_is_one_message(name, run, tmp_path):
    text, *words = BROKEN[name]
    (tmp_path / "hand.json").write_text(text)
    code, out, err = run("compare", package("qwen3_galaxy", "galaxy"), "--plan", "hand.json")
    assert (code, out, err.strip().count("\n")) == (2, "", 0)
    assert err.startswith("fx2ttnn: ") and all(word in err for word in words), err


@pytest.mark.parametrize("name", ["nosuch.json", ".", "bytes.json"])
def test_what_is_no_file_is_one_message(name, run, tmp_path):
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    code, _, err = run("compare", package("qwen3_galaxy", "galaxy"), "--plan", name)
    assert (code, err.strip().count("\n")) == (2, 0) and name in err


# -- parts of a layer ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "target"),
    [("qwen3_galaxy", "galaxy"), ("gemma2", "n150"), ("phi", "n300"), ("mixtral", "n150"), ("afmoe", "n150")],
)
def test_every_operation_has_a_part_and_matmuls_have_theirs(model, target):
    part = layer_of(data.read(package(model, target)))
    found = parts_of(part)
    assert {*found} == {node["id"] for node in part["nodes"]} and {*found.values()} <= {*PARTS}
    matmuls = [found[node["id"]] for node in part["nodes"] if node["op"] == "linear"]
    assert {*matmuls} == {"query, key, value", "output", "gate and up", "down"}
    assert [*found.values()].count("attention") == 1


def test_parts_do_not_depend_on_names(report):
    part = copy.deepcopy(layer_of(report))
    before = [*parts_of(part).values()]
    for node in part["nodes"]:
        node["module"] = "x"
        node["id"] = f"y{node['id']}"
    assert [*parts_of(part).values()] == before


def test_a_norm_behind_attention_is_not_the_one_before_the_mlp():
    part = layer_of(data.read(package("gemma2")))
    found = parts_of(part)
    norms = [found[node["id"]] for node in part["nodes"] if node["op"] == "rms_norm"]
    assert norms == [f"norm {where}" for where in ("before attention", "behind attention", "before MLP", "behind MLP")]


# -- the comparison --------------------------------------------------------------------------------------------------


def test_sums_are_those_of_the_step_at_the_plans_load(report):
    plan = hand_plan.load("qwen3-32b")
    found, program = compare(report, plan), compiled("qwen3_galaxy", "galaxy").program
    load = Load(plan.users, plan.context)
    step = sum(predicted(program.plan, graph, load).seconds for graph in (program.decode, program.sampling))
    assert found.ours_step_us == pytest.approx(1e6 * step)
    assert found.layers * found.ours_layer_us + found.ours_tail_us == pytest.approx(1e6 * step)
    assert sum(row.theirs_us for row in found.rows) == pytest.approx(plan.layer_us)


def test_operations_stand_beside_those_that_do_the_same(report):
    rows = {row.parts: row for row in compare(report, hand_plan.load("qwen3-32b")).rows}
    heads = rows["norm of heads", "rotary"]
    assert [line.name for line in heads.ours] == ["DitFusedDistributedRmsnorm"] * 2
    assert [line.count for line in heads.theirs] == [14, 1]
    gather = rows[("gather before MLP",)]
    assert gather.ours and not gather.theirs
    assert rows[("down",)].unlike == () and rows[("down",)].ours[0].shape == (32, 3200, 1280)
    assert "other shape" in rows["gate and up", "sum of gate and up"].unlike


def of_ours(report, load):
    """The package's own layer as a plan."""
    part, done = layer_of(report), parts_of(layer_of(report))
    ops = [*StepOps(report, load).of_part(part, 0.7)]
    layer = [
        LayerOp(
            name=op.name,
            kernel_us=op.kernel_us,
            gap_us=op.gap,
            time="measured",
            source="",
            parts=[*dict.fromkeys(done[member] for member in op.call["members"])],
            shape=[*op.shape],
            dtype=op.dtype,
        )
        for op in ops
    ]
    return HandPlan.model_validate({**HAND, "layer": layer, "context": load.context, "users": load.users})


@pytest.mark.parametrize("load", [Load(1, 128), Load(32, 4096)])
def test_a_plan_beside_itself_has_no_difference(report, load):
    rows = compare(report, of_ours(report, load)).rows
    assert [(row.slower_by, row.unlike) for row in rows] == [(0.0, ())] * len(rows)


def test_other_machines_and_types_are_said(report):
    plan = of_ours(report, Load(32, 128))
    other = plan.layer[1].model_copy(update={"dtype": "bfloat4_b"})
    found = compare(report, plan.model_copy(update={"target": "t3k", "layer": [other]}))
    assert found.remarks == ("the package is for galaxy, the plan for t3k",)
    assert next(row for row in found.rows if row.theirs).unlike == ("other type",)
    assert sum(not row.theirs for row in found.rows) == len(found.rows) - 1


def test_the_command_says_where_it_is_slower(run, tmp_path):
    folder = package("qwen3_galaxy", "galaxy")
    code, out, err = run("compare", folder, "--plan", "qwen3-32b", "--json", "found.json")
    assert (code, err) == (0, "")
    assert "32 users, 128 tokens each" in out and "slower by" in out and "bound 25.70" in out
    written = json.loads((tmp_path / "found.json").read_text())
    assert written == json.loads(json.dumps(compare(data.read(folder), hand_plan.load("qwen3-32b")).to_json()))
    assert run("compare", folder, "--plan", "qwen3-32b", "--json", "no/such/found.json")[0] == 2


def test_a_file_goes_before_a_name(run, tmp_path):
    (tmp_path / "qwen3-32b").write_text(json.dumps(HAND | {"model": "mine"}))
    (tmp_path / "llama-3.3-70b").mkdir()
    folder = package("qwen3_galaxy", "galaxy")
    assert "mine" in run("compare", folder, "--plan", "qwen3-32b")[1]
    assert "Llama-3.3-70B" in run("compare", folder, "--plan", "llama-3.3-70b")[1]


def test_markup_in_a_plan_is_text(report, capsys):
    from rich.console import Console

    plan = hand_plan.load("qwen3-32b").model_copy(update={"model": "[bold]x[/]", "notes": ["[red]y"]})
    for part in render(replace(compare(report, plan), remarks=("[z]",))):
        Console(width=200).print(part)
    out = capsys.readouterr().out
    assert all(text in out for text in ("[bold]x[/]", "[red]y", "[z]"))
