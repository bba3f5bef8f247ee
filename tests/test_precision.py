"""Types by role, and what may be chosen besides: the math fidelity of matmuls, the type of gate and up projections."""

import pytest
from suites import assert_passes, run_suite
from tiny import CONFIGS, compiled, write_config

from fx2ttnn import pipeline
from fx2ttnn.errors import UserError
from fx2ttnn.plan.gates import gate_parameters, gates
from fx2ttnn.precision import chosen


def test_without_choices_it_is_the_named_one():
    assert chosen("performance").of_gates() == chosen("performance")
    assert chosen("performance").bytes_of("gates") == chosen("performance").bytes_of("weights")


def test_four_bits_take_one_pass():
    found = chosen("performance", gates="bfloat4_b")
    assert (found.weights, found.fidelity) == ("bfloat8_b", "HiFi2")
    assert (found.of_gates().weights, found.of_gates().fidelity) == ("bfloat4_b", "LoFi")
    assert found.name == "performance, bfloat4_b gates"
    assert chosen("performance", fidelity="LoFi") == chosen("performance", fidelity="lofi")
    assert chosen("performance", fidelity="LoFi").fidelity == "LoFi"


@pytest.mark.parametrize("choice", [{"name": "fast"}, {"fidelity": "HiFi5"}, {"gates": "int4"}])
def test_what_there_is_not_is_refused_with_what_there_is(choice):
    with pytest.raises(UserError, match=r"unknown (precision|fidelity|type of gates) .*: known are "):
        chosen(**{"name": "performance", **choice})


def test_gates_are_what_only_the_activation_reads():
    graph = compiled("qwen3", "n150").plan.graph
    assert {graph.parameters[v].split(".")[-2] for v in gate_parameters(graph)} == {"gate_proj", "up_proj"}
    assert gates(compiled("gpt2", "n150").plan.graph) == frozenset()


def test_gates_are_found_behind_the_sums_over_chips():
    planned = compiled("qwen3_galaxy", "galaxy").plan
    assert {planned.graph.parameters[v].split(".")[-2] for v in gate_parameters(planned.graph)} == {
        "gate_proj",
        "up_proj",
    }


@pytest.fixture(scope="module")
def four_bits(tmp_path_factory):
    """A tiny model whose gate and up projections have four bits."""
    folder = tmp_path_factory.mktemp("four_bits")
    model = write_config(folder / "tiny", CONFIGS["llama"])
    options = pipeline.Options(str(model), "n150", max_seq_len=128, gates="bfloat4_b")
    found = pipeline.compile_model(options)
    pipeline.write_package(found, folder / "package")
    return found, folder / "package"


def test_chosen_types_are_those_of_the_weights(four_bits):
    found, _ = four_bits
    parameters = found.lowered.parameters
    linear = [call for call in found.lowered.calls if call.function == "ttnn.linear"]
    types = {
        parameters[ref].sources: parameters[ref].tensor.dtype
        for call in linear
        for ref in call.inputs
        if ref in parameters
    }
    fidelities = {dict(call.kwargs["compute_kernel_config"].kwargs)["math_fidelity"].name[-5:] for call in linear}
    for sources, dtype in types.items():
        of_gate = any("gate_proj" in source or "up_proj" in source for source in sources)
        assert dtype == ("bfloat4_b" if of_gate else "bfloat8_b"), sources
    assert fidelities == {".LoFi", "HiFi2"}
    assert found.plan.dram["weights"] < compiled("llama", "n150").plan.dram["weights"]


@pytest.mark.slow
def test_a_package_with_four_bits_passes_its_suite(four_bits):
    assert_passes(run_suite(four_bits[1], "tests/ops", "tests/modules", "tests/model/test_model.py"))
