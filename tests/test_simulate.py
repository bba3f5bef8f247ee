"""Running a package on the vendor's kernels in the vendor's simulator: what it needs, how outcomes are sorted, and, where it is here, runs."""

from __future__ import annotations

import difflib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from suites import compiled
from tiny import CONFIGS, write_config

from fx2ttnn import targets
from fx2ttnn.check.mock import ttnn_package, without_hardware
from fx2ttnn.errors import UserError
from fx2ttnn.simulate import environment
from fx2ttnn.simulate.result import (
    ERROR,
    HUNG,
    OUT_OF_TIME,
    PASSED,
    REFUSED,
    SKIPPED,
    WRONG,
    Run,
    Simulation,
    read_runs,
)
from fx2ttnn.simulate.run import _REFUSAL, _runs, simulate

ONE, TWO = targets.load("n150"), targets.load("n300")


def needs_simulator(target):
    """Skip, with the reason, where there is no simulator of this machine or no kernel compiler."""
    try:
        environment.simulator_environment(target)
    except UserError as error:
        return pytest.mark.skip(reason=str(error))
    return pytest.mark.slow


# -- what it needs ---------------------------------------------------------------------------------------------------


@pytest.fixture
def nothing(monkeypatch, tmp_path):
    """A machine without simulator and compiler."""
    for name in ("TT_METAL_SIMULATOR", "TT_METAL_RUNTIME_ROOT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(environment, "HOME", tmp_path / "sim")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def fakes(nothing):
    """Files in the places of a simulator and a compiler."""
    library, compiler = nothing / "libttsim_wh.so", nothing / "root/runtime/sfpi/compiler/bin/riscv-tt-elf-g++"
    compiler.parent.mkdir(parents=True)
    for file in (library, compiler):
        file.write_text("")
    return library, nothing / "root"


@pytest.mark.parametrize(
    ("target", "library"),
    [
        ("n150", "libttsim_wh.so"),
        ("galaxy", "libttsim_wh_x32.so"),
        ("p150", "libttsim_bh.so"),
        ("t3k", "libttsim_wh_x8.so"),
    ],
)
def test_without_simulator_a_message_says_where_to_get_which(nothing, target, library):
    with pytest.raises(UserError, match=rf"(?s)no simulator.*releases.*{library}.*--simulator"):
        environment.simulator_environment(targets.load(target))


def test_without_compiler_a_message_says_where_to_get_it(fakes, monkeypatch, tmp_path):
    with pytest.raises(UserError, match=r"(?s)no kernel compiler in .*sfpi/releases.*--runtime"):
        environment.simulator_environment(ONE, fakes[0], tmp_path / "elsewhere")


def test_the_compiler_of_the_mock_is_none(fakes):
    (fakes[1] / "runtime/sfpi/compiler/bin/null.elf").write_text("")
    with pytest.raises(UserError, match="no kernel compiler"):
        environment.simulator_environment(ONE, *fakes)


def test_the_environment_names_simulator_compiler_and_caches_of_their_own(fakes):
    found = environment.simulator_environment(ONE, *fakes)
    beside = Path(found["TT_METAL_SIMULATOR"]).with_name("soc_descriptor.yaml")
    assert "WORMHOLE_B0" in beside.read_text().upper()
    assert (Path(found["TT_METAL_RUNTIME_ROOT"]) / "runtime/sfpi/compiler/bin/riscv-tt-elf-g++").exists()
    assert found["TT_METAL_SLOW_DISPATCH_MODE"] == "1"
    fast = environment.simulator_environment(ONE, *fakes, fast_dispatch=True)
    assert "TT_METAL_SLOW_DISPATCH_MODE" not in fast
    assert fast["TT_METAL_CACHE"] != found["TT_METAL_CACHE"]


def test_what_lies_beside_the_simulator_is_of_the_ttnn_in_use(fakes, monkeypatch, tmp_path):
    """Another environment's ttnn has its own file: a link into an environment that is gone is no file at all."""
    found = []
    for name in ("first", "second"):
        package = tmp_path / name / "ttnn"
        shutil.copytree(ttnn_package() / "tt_metal/soc_descriptors", package / "tt_metal/soc_descriptors")
        (package / "runtime/hw").mkdir(parents=True)
        monkeypatch.setattr(environment, "ttnn_package", lambda package=package: package)
        found.append(environment.simulator_environment(ONE, *fakes)["TT_METAL_SIMULATOR"])
        beside = Path(found[-1]).with_name("soc_descriptor.yaml")
        assert beside.is_file()
        shutil.rmtree(package)
    assert found[0] != found[1]


def test_one_instruction_of_one_header_is_left_out_on_wormhole_alone(fakes):
    wormhole, blackhole = (
        Path(environment.simulator_environment(target, *fakes)["TT_METAL_RUNTIME_ROOT"]) / environment._HEADER
        for target in (ONE, targets.load("p150"))
    )
    original = (ttnn_package() / environment._HEADER).read_text()
    assert blackhole.read_text() == original
    left_out = list(difflib.unified_diff(original.splitlines(), wormhole.read_text().splitlines(), n=0, lineterm=""))[
        3:
    ]
    assert [line.split("(")[0].split() for line in left_out] == [
        ["-", "TTI_SETADCXX"],
        ["-", "TT_UNPACR"],
        ["-", "TTI_SETADCXX"],
    ]


def test_bad_input_is_one_message(run, nothing, tmp_path):
    code, _, said = run("simulate", tmp_path)
    assert code == 2
    assert "is not a package" in said


# -- outcomes --------------------------------------------------------------------------------------------------------


def of(*events, words="", timeout=10.0):
    """The one run of these events of a test that starts at 0."""
    given = [{"event": "start", "test": "test_a[x]", "at": 0.0}, *events]
    (found,) = _runs("tests/ops/test_a.py", given, words, timeout)
    assert found.test == "tests/ops/test_a.py::test_a[x]"
    return found


def end(outcome, message="", **measured):
    return {"event": "end", "test": "test_a[x]", "outcome": outcome, "message": message, "at": 3.0, **measured}


def test_outcomes_are_told_apart():
    call = {"event": "call", "name": "ttnn.add", "at": 1.0}
    passed = of(end("passed", pcc=0.5, difference=0.1))
    assert (passed.outcome, passed.seconds, passed.pcc, passed.difference) == (PASSED, 3.0, 0.5, 0.1)
    wrong = of(end("failed", "AssertionError: PCC 0.970000 is below 0.99\nmore"))
    assert (wrong.outcome, wrong.detail) == (WRONG, "AssertionError: PCC 0.970000 is below 0.99")
    assert of(end("failed", "RuntimeError: TT_FATAL @ x")).outcome == ERROR
    assert of(end("skipped", "no card")).outcome == SKIPPED
    read = {"event": "call", "name": "ttnn.to_torch", "at": 1.5}
    refused = of(call, read, {"event": "refused", "at": 2.0}, words="UnsupportedFunctionality: tensix_x: y=6")
    assert (refused.outcome, refused.detail) == (REFUSED, "UnsupportedFunctionality: tensix_x: y=6 (in ttnn.add)")
    hung = of(call, {"event": "stopped", "at": 11.0})
    assert (hung.outcome, hung.detail) == (HUNG, "ttnn.add did not return for 10 s")
    busy = of(call, {"event": "call", "name": "ttnn.add", "at": 9.0}, {"event": "stopped", "at": 11.0})
    assert busy.outcome == OUT_OF_TIME
    assert of(call, {"event": "exit", "at": 2.0}, words="Segmentation fault").outcome == ERROR


def test_the_simulators_last_words_are_found():
    """After the number of its clock, among what else is printed."""
    said = "[0] 5.2 seconds (0.0 KHz)\n[5330] ERROR: UnsupportedFunctionality: tensix_sfpshft2: instr_mod1=6\n"
    assert _REFUSAL.findall(said) == [("UnsupportedFunctionality", "tensix_sfpshft2: instr_mod1=6")]


def test_what_the_simulator_lacks_is_not_the_packages_fault():
    found = Simulation("m", "n150", "libttsim_wh.so", "0", (Run("a", PASSED, 1.0), Run("b", REFUSED, 1.0)))
    assert found.ok
    assert not replace(found, runs=(*found.runs, Run("c", WRONG, 1.0))).ok


def test_later_runs_keep_those_of_other_tests(tmp_path):
    (tmp_path / "report").mkdir()
    first = Simulation("m", "n150", "libttsim_wh.so", "0", (Run("a", WRONG, 1.0), Run("b", PASSED, 1.0)))
    first.write(tmp_path)
    replace(first, runs=(Run("a", PASSED, 2.0),)).write(tmp_path)
    runs = read_runs(json.loads((tmp_path / "report/simulator.json").read_text()))
    assert {test: run["outcome"] for test, run in runs.items()} == {"a": PASSED, "b": PASSED}


# -- in the simulator ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated")
    return compiled(folder, str(write_config(folder / "tiny", CONFIGS["qwen3"])), "n150", "accuracy", max_seq_len=128)


@needs_simulator(ONE)
def test_a_packages_tests_run_on_the_vendors_kernels(package):
    """Two kinds of operations, one of which is told to expect more than any numbers can give."""
    file = package / "tests/ops/test_add.py"
    file.write_text(file.read_text().replace("pcc=0.99", "pcc=2.99", 1))
    found = simulate(package, ("ops",), "test_add")
    assert found.count()[WRONG] == 1
    assert set(found.count()) <= {WRONG, PASSED}
    norms = simulate(package, ("ops",), "rms_norm")
    assert norms.ok and all(run.pcc > 0.9999 for run in norms.runs)


@needs_simulator(ONE)
def test_attention_in_a_window_is_right_behind_it(tmp_path):
    """The kernel is wrong there where it chooses the chunks of keys itself (docs/ttnn_issues/window_and_chunk.md)."""
    model = str(write_config(tmp_path / "tiny", CONFIGS["olmo3"]))
    package = compiled(tmp_path, model, "n150", "accuracy", max_seq_len=128)
    found = simulate(package, ("ops",), "paged_scaled_dot_product_attention_decode")
    assert found.ok and len(found.runs) == 2


FIRST_COLLECTIVE = """
import sys, torch, ttnn
sys.path.insert(0, {folder!r})
from {name} import ccl, mesh
device = mesh.open_mesh()
where = ttnn.create_sharded_memory_config(
    (1, 1, 32, 32), core_grid=ttnn.CoreGrid(y=4, x=5), strategy=ttnn.ShardStrategy.WIDTH, use_height_and_width_as_shard_shape=True)
numbers = torch.randn(2, 1, 32, 640).bfloat16() + 3
x = mesh.to_mesh(device, numbers, (None, 0), ttnn.bfloat16, memory_config=where)
found = mesh.from_mesh(device, ccl.all_reduce(x, 1, ttnn.DRAM_MEMORY_CONFIG), (None, 0)).float()
print("difference", (found - numbers.float().sum(0)).abs().max().item())
"""


@needs_simulator(TWO)
def test_the_first_collective_of_a_mesh_reads_what_lies_in_l1(tmp_path):
    """Its semaphores have a region of their own; without one they land where the input lay, and zeros are summed."""
    package = compiled(tmp_path, str(write_config(tmp_path / "tiny", CONFIGS["qwen3"])), "n300", max_seq_len=128)
    env = without_hardware(os.environ) | environment.simulator_environment(TWO)
    script = FIRST_COLLECTIVE.format(folder=str(package.parent), name=package.name)
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=600)
    said = [line for line in done.stdout.splitlines() if line.startswith("difference")]
    assert said and float(said[0].split()[1]) < 0.1, done.stdout[-3000:] + done.stderr[-3000:]


@needs_simulator(ONE)
@pytest.mark.slow
def test_prefetched_weights(tmp_path: Path) -> None:
    """A package's prefetcher and the matmuls that read from it, in the order of a layer, on one chip."""
    fields = {**CONFIGS["qwen3"], "hidden_size": 512, "num_attention_heads": 16, "num_key_value_heads": 8}
    package = compiled(tmp_path, str(write_config(tmp_path / "small", fields)), "galaxy", prefetch=True)
    script = Path(__file__).with_name("prefetched_on_simulator.py")
    done = subprocess.run([sys.executable, str(script), str(package)], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0 and "all right" in done.stdout, done.stdout[-3000:] + done.stderr[-3000:]


@needs_simulator(ONE)
@pytest.mark.slow
def test_a_mixture_beside_the_prefetcher(tmp_path: Path) -> None:
    """A package's router and experts, from the hidden state to the last product, on one chip: two of 24 cores hold the routing."""
    fields = {**CONFIGS["qwen3_moe"], "hidden_size": 512, "num_attention_heads": 16, "num_key_value_heads": 8}
    fields |= {"head_dim": 64, "num_experts": 64, "num_experts_per_tok": 4, "moe_intermediate_size": 256}
    package = compiled(tmp_path, str(write_config(tmp_path / "mixture", fields)), "galaxy", prefetch=True)
    script = Path(__file__).with_name("mixture_on_simulator.py")
    done = subprocess.run([sys.executable, str(script), str(package)], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0 and "PCC" in done.stdout, done.stdout[-3000:] + done.stderr[-3000:]
