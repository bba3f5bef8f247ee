"""Heads, experts and vocabularies that the mesh does not divide: complete models, and a vocabulary that is split all the same."""

import pytest
from suites import assert_passes, compiled, run_suite
from tiny import CONFIGS, write_config

from fx2ttnn import pipeline
from fx2ttnn.ir import Graph, Op, Ref, TensorSpec
from fx2ttnn.plan.search import filled_up

SHAPES = {
    "9_heads": {"hidden_size": 576, "num_attention_heads": 9, "num_key_value_heads": 3},
    "14_heads": {"hidden_size": 896, "num_attention_heads": 14, "num_key_value_heads": 2},
    "40_heads": {"hidden_size": 2560, "num_attention_heads": 40, "num_key_value_heads": 10},
}


def stages(folder, model, fields, target):
    config = write_config(folder / "model", {**CONFIGS[model], **fields})
    return pipeline.compile_model(pipeline.Options(str(config), target))


@pytest.mark.parametrize("target", ["galaxy", "t3k_2x4"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_that_the_mesh_does_not_divide_is_complete(shape, target, tmp_path):
    assert stages(tmp_path, "llama", SHAPES[shape], target).complete


@pytest.mark.parametrize("experts", [6, 60])
def test_experts_that_the_mesh_does_not_divide(experts, tmp_path):
    assert stages(tmp_path, "qwen3_moe", {"num_experts": experts}, "galaxy").complete


@pytest.mark.parametrize(("target", "width", "fill"), [("n300", 16002, 1), ("galaxy", 1001, 29)])
def test_a_vocabulary_is_filled_up(target, width, fill, tmp_path):
    """The chips share it in equal parts: rows of zeros in the weight, which no token may be drawn from."""
    found = stages(tmp_path, "llama", {"vocab_size": 32003}, target)
    logits = found.lowered.tensors[found.lowered.outputs[0]]
    assert (logits.width, found.plan.fill(found.lowered.outputs[0])) == (width, fill)
    weight = next(p for p in found.program.parameters.values() if p.sources == ("lm_head.weight",))
    assert weight.arguments["fill"] == fill
    assert "ttnn.add" in [call.function for call in found.program.sampling.calls if call.op.name == "hide_fill"]


def test_only_what_is_computed_by_itself_up_to_the_output_is_filled_up():
    """Logits and the weight before them, but no value that is summed over or gathered by another operation."""
    names = {"x": (32, 1, 64), "w": (50, 64), "v": (70, 50), "y": (32, 1, 50), "z": (32, 1, 70), "scaled": (32, 1, 70)}
    ops = [
        Op("linear", (Ref("x"), Ref("w")), ("y",)),
        Op("linear", (Ref("y"), Ref("v")), ("z",)),
        Op("scale", (Ref("z"),), ("scaled",), {"factor": 2.0}),
    ]
    specs = {name: TensorSpec(shape) for name, shape in names.items()}
    graph = Graph("decode", ("x",), ("scaled",), tuple(ops), specs, {"w": "w", "v": "v"})
    assert filled_up(graph) == {("scaled", 2), ("z", 2), ("v", 0)}


@pytest.mark.slow
def test_the_suite_passes(tmp_path):
    """The columns behind the vocabulary are zeros, above all other logits in the test of sampling: none is ever drawn."""
    config = write_config(tmp_path / "model", {**CONFIGS["llama"], "vocab_size": 1003})
    package = compiled(tmp_path, str(config), "n300", max_seq_len=128)
    assert_passes(
        run_suite(
            package, "tests/modules/test_lm_head.py", "tests/modules/test_sampling.py", "tests/model/test_model.py"
        )
    )
