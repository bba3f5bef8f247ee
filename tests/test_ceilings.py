"""What bounds a layer: exact bytes, and parts that add up to the predicted time."""

import pytest
from tiny import package

from fx2ttnn.report import data
from fx2ttnn.report.ceilings import ceilings
from fx2ttnn.report.page import page

PACKAGES = [("qwen3_galaxy", "galaxy"), ("qwen3", "n150"), ("gemma2", "n150"), ("qwen2", "n300")]
BFLOAT8_B = 1088 / 1024


def layer_of(report):
    return next(part for part in report.graph["modes"]["decode"]["parts"] if part["layer"])


def found(model, target):
    report = data.read(package(model, target))
    return report, ceilings(report, layer_of(report))


def test_bytes_of_weights_by_hand():
    """Columns lie in whole tiles over 12 banks: 1280 as 1536, 800 as 1152."""
    report, of = found("qwen3_galaxy", "galaxy")
    exact = (1280 * 1280 + 1024 * 1280 + 2 * 5120 * 800 + 3200 * 1280) * BFLOAT8_B
    padded = (1280 * 1536 + 1024 * 1536 + 2 * 5120 * 1152 + 3200 * 1536) * BFLOAT8_B
    assert layer_of(report)["weights"] == {"bytes": exact, "padded_bytes": padded}
    us = {ceiling.name: ceiling.us for ceiling in of.found}
    assert us["weights"] == pytest.approx((exact / 250e3,) * 2)
    assert us["weights, padded to the DRAM banks"] == pytest.approx((padded / 250e3,) * 2)
    assert of.prefetcher == pytest.approx(padded / 200e3) and of.binds.bound


@pytest.mark.parametrize(("model", "target"), PACKAGES)
def test_parts_add_up_to_what_is_predicted(model, target):
    _, of = found(model, target)
    names = ("KV cache", "links", "latency of collectives", "launches", "matmuls", "kernels")
    for index in range(len(of.loads)):
        parts = sum(ceiling.us[index] for ceiling in of.found if ceiling.name in names)
        assert parts == pytest.approx(of.predicted[index])
        assert of.prefetched[index] >= of.rest[index] >= 0
        assert of.percent(of.binds, index) >= 0


def test_only_the_cache_grows_with_the_text():
    _, of = found("qwen3_galaxy", "galaxy")
    assert [load.context for load in of.loads] == [128, 4096]
    grown = {ceiling.name: ceiling.us[1] - ceiling.us[0] for ceiling in of.found if ceiling.us[1] != ceiling.us[0]}
    assert grown == pytest.approx({"KV cache": of.predicted[1] - of.predicted[0]})


def test_one_chip_has_no_collectives():
    _, of = found("qwen3", "n150")
    us = {ceiling.name: ceiling.us[0] for ceiling in of.found}
    assert us["links"] == us["latency of collectives"] == 0


def test_the_page_says_what_binds():
    report, of = found("qwen3_galaxy", "galaxy")
    text = page(report)
    assert "Ceilings of model.layers.0" in text and f"<b>{of.binds.name}</b>" in text
    assert f"{of.prefetched[0]:.1f} µs" in text
