"""Heads, experts and vocabularies that the mesh does not divide: complete models, and a vocabulary that is split all the same."""

import pytest
from suites import assert_passes, compiled, run_suite
from tiny import CONFIGS, write_config

from fx2ttnn import pipeline
from fx2ttnn import plan as planning
from fx2ttnn.ir import Graph, Op, Placement, Ref, TensorSpec
from fx2ttnn.plan import search
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


def test_scaled_logits_are_split_likewise(tmp_path):
    """They are computed column by column: a factor behind the last matmul needs no whole tiles on a chip."""
    logits = stages(tmp_path, "granite", {"vocab_size": 32003}, "galaxy").lowered
    assert logits.tensors[logits.outputs[0]].width == 1001


def test_interleaved_columns_that_are_no_whole_tiles_for_each_chip_have_an_interleaved_sum(tmp_path, monkeypatch):
    """ttnn makes no sharded one of them: logits, where their columns may not be filled up, so that the contracted dim is split."""
    monkeypatch.setattr(search, "filled_up", lambda graph: frozenset())
    logits = stages(tmp_path, "granite", {"vocab_size": 49160, "hidden_size": 4096}, "galaxy").lowered
    (summed,) = [call for call in logits.calls if call.outputs == logits.outputs]
    assert summed.function == "ttnn.all_reduce"
    assert logits.tensors[summed.inputs[0]].memory.kind == summed.kwargs["memory_config"].kind == "interleaved"


def test_squares_of_rows_too_wide_are_summed_by_halves(tmp_path, monkeypatch):
    """12,288 columns over four chips: the squares of 3072 in float32 beside the row are more than L1 holds with a step's buffers."""
    monkeypatch.setattr(planning, "residual_placements", lambda target: [Placement(("R", 2))])
    for hidden, width in ((8192, 2048), (12288, 1536)):
        found = stages(tmp_path, "llama", {"hidden_size": hidden, "head_dim": 64}, "galaxy").program
        (long,) = found.by_mode["prefill"].values()
        statistics = [c for c in long.calls if c.function == "ttnn.rms_norm_pre_all_gather"]
        assert {long.tensors[c.inputs[0]].width for c in statistics} == {width}


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
