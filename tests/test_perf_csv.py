"""A step's predicted operations in tt-perf-report's columns: all of them, in order, with its rates."""

import csv
import io

import pytest
from tiny import CONFIGS, compiled, package, write_config

from fx2ttnn import pipeline
from fx2ttnn.cost.calls import Load
from fx2ttnn.profile.predicted import predicted
from fx2ttnn.report import data
from fx2ttnn.report.perf_csv import OURS, THEIRS, perf_csv

SHORT = Load(32, 128)


def lines(model, target, load=SHORT):
    return [*csv.DictReader(io.StringIO(perf_csv(data.read(package(model, target)), load)))]


@pytest.mark.parametrize(("model", "target"), [("qwen3_galaxy", "galaxy"), ("gemma2", "n150")])
def test_every_operation_of_a_step_has_a_line(model, target):
    found, program = lines(model, target), compiled(model, target).program
    steps = [predicted(program.plan, graph, SHORT) for graph in (program.decode, program.sampling)]
    assert tuple(found[0]) == (*THEIRS, *OURS)
    assert len(found) == sum(step.device_ops for step in steps)
    us = sum(float(line["Device Time"]) + float(line["Op-to-Op Gap"]) for line in found)
    assert us == pytest.approx(1e6 * sum(step.seconds for step in steps), rel=1e-5)
    assert sum(float(line["Total %"]) for line in found) == pytest.approx(100, abs=0.1)
    layers = [line["Part"] for line in found if line["Part"].startswith("layer ")]
    count = program.plan.capture.config["num_hidden_layers"]
    assert [*dict.fromkeys(layers)] == [f"layer {number}" for number in range(count)]
    assert {line["Predicted"] for line in found} == {"by fx2ttnn, 32 users, 128 tokens each"}


def test_rates_of_a_matmul_are_those_of_the_tool():
    """Bytes as tt-perf-report counts them: bfloat8_b is one byte, tiles are whole; shares of the chip's figures."""
    line = next(line for line in lines("qwen3_galaxy", "galaxy") if line["OP Code"].startswith("Matmul"))
    assert line["OP Code"] == "MatmulDeviceOperation 32 x 1280 x 1280"
    us = float(line["Device Time"])
    assert float(line["DRAM"]) == pytest.approx(1280 * 1280 / us / 1e3, rel=1e-4)
    assert float(line["DRAM %"]) == pytest.approx(float(line["DRAM"]) / 288 * 100, rel=1e-4)
    assert float(line["FLOPs"]) == pytest.approx(2 * 32 * 1280 * 1280 / us / 1e6, rel=1e-4)
    assert float(line["FLOPs %"]) == pytest.approx(float(line["FLOPs"]) / (131 * 12 / 72) * 100, rel=1e-4)
    said = [line[name] for name in ("Bound", "Cores", "Math Fidelity", "DRAM Sharded", "Input 0 Memory")]
    assert said == ["SLOW", "12", "HiFi2 BF16 x BFP8 => BFP8", "True", "L1_WIDTH_SHARDED"]


def test_what_is_not_known_before_a_run_is_empty():
    for line in lines("qwen3_galaxy", "galaxy"):
        unknown = ("Device", "Global Call Count", "Sub Device ID", "Available Cores", "Op Category", "Bound Analysis")
        assert all(line[name] == "" for name in unknown)
        assert line["OP Code"].startswith("Matmul") or line["Cores"] == line["DRAM"] == line["Math Fidelity"] == ""


def test_more_tokens_change_attention_alone():
    short, long = (lines("qwen3_galaxy", "galaxy", Load(32, n)) for n in (128, 4096))
    other = {a["OP Code"] for a, b in zip(short, long, strict=True) if a["Device Time"] != b["Device Time"]}
    assert other == {"SdpaDecodeDeviceOperation"}


def test_the_command_writes_it(run, tmp_path):
    folder = package("qwen3_galaxy", "galaxy")
    assert run("report", folder, "--csv", "step.csv", "--context", "64")[0] == 0
    assert (tmp_path / "step.csv").read_text() == perf_csv(data.read(folder), Load(32, 64))
    code, _, err = run("report", folder, "--csv", "step.csv", "--context", "5000")
    assert code == 2 and "has room for 4096 tokens of each, not for 5000" in err
    code, _, err = run("report", folder, "--csv", "no/such.csv")
    assert code == 2 and "cannot write no/such.csv" in err


def test_layers_of_two_kinds_stand_in_the_models_order(tmp_path):
    kinds = ["sliding_attention", "full_attention", "full_attention", "sliding_attention"]
    config = CONFIGS["gemma2"] | {"num_hidden_layers": 4, "layer_types": kinds}
    write_config(tmp_path / "model", config)
    pipeline.write_package(pipeline.compile_model(pipeline.Options(str(tmp_path / "model"), "n150")), tmp_path / "out")
    found = csv.DictReader(io.StringIO(perf_csv(data.read(tmp_path / "out"), SHORT)))
    layers = {line["Part"]: line["Module"].split(".")[2] for line in found if line["Part"].startswith("layer")}
    assert [*layers.values()] == ["0", "1", "1", "0"]
