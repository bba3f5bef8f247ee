"""Dense families that differ in every part of a layer: recognised graphs equal the models, and every operation has ttnn calls."""

import pytest
from recognised import assert_equals_model
from suites import NUMBERS, assert_passes, compiled, run_suite
from tiny import CONFIGS, FAMILIES, HEADS, config_of, folder_of
from tiny import compiled as stages

ALL = [*FAMILIES, *HEADS, "cohere_norms", "stablelm_norms"]


@pytest.mark.parametrize("family", ALL)
def test_recognised_graph_equals_the_model(family):
    assert_equals_model(config_of(family))


@pytest.mark.parametrize("target", ["n150", "galaxy"])
@pytest.mark.parametrize("family", ALL)
def test_every_operation_has_calls(family, target):
    result = stages(family, target)
    assert result.complete
    assert result.coverage.percent == 100


@pytest.mark.slow
@pytest.mark.parametrize("family", ["capped", "many_heads"])
def test_the_emitted_attention_passes(family, tmp_path):
    """Scores where their cap bites, in both kinds of layers; more query heads on a chip than a tile has rows."""
    package = compiled(tmp_path, str(folder_of(family)), "n150", max_seq_len=256)
    assert_passes(run_suite(package, "tests/modules/test_attention.py"))


def test_more_kv_heads_on_a_chip_than_a_tile_has_rows_are_reported(monkeypatch):
    """ttnn's host code accepts them, but its kernel would write to the cache what is not there."""
    monkeypatch.setitem(CONFIGS, "many_kv_heads", {**CONFIGS["many_heads"], "num_key_value_heads": 40})
    result = stages("many_kv_heads", "n150")
    assert {op.name for op, _ in result.lowered.unsupported} == {"update_cache"}
    assert stages("many_kv_heads", "n300").complete


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "target"),
    [
        ("gemma2", "n150"),
        ("gpt_neox_80", "n300"),
        ("glm4", "n300"),
        ("olmo2_40", "n300"),
        ("nanochat", "t3k"),
        ("apertus", "t3k"),
        ("gpt2", "n150"),
        ("codegen", "n300"),
    ],
)
def test_the_emitted_suite_passes(family, target, tmp_path):
    """Alternating windows and capped logits; layer norms, fused weights and parallel blocks; neighbours that rotate; norms over heads.

    Some with heads to which zeros are added; norms without weights, one of which runs twice, heads that rotate backwards. An activation with weights. Weights
    stored [in, out] and learned positions; parts of groups of heads, rotated before heads come first, with tables from a buffer.
    """
    assert_passes(run_suite(compiled(tmp_path, str(folder_of(family)), target, max_seq_len=256), *NUMBERS))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "target"), [("phi3_96", "n150"), ("cohere_norms", "t3k"), ("stablelm_norms", "t3k")]
)
def test_the_emitted_modules_pass(family, target, tmp_path):
    """Fused weights with zeros; norms of heads with weights of their own, stored as one or each for itself."""
    assert_passes(run_suite(compiled(tmp_path, str(folder_of(family)), target, max_seq_len=256), "tests/modules"))
