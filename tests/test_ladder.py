"""benchmarks/ladder.py: families are found from what a package took, and each rung is a whole step."""

import sys
from pathlib import Path

import pytest
from tiny import compiled

from fx2ttnn.lower.rules import load_rules

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
import ladder


@pytest.fixture(scope="module")
def best():
    return compiled("qwen3_galaxy", "galaxy").plan


@pytest.mark.slow
def test_families_are_functions_that_the_package_calls(best):
    rules = load_rules()
    whole = ladder.lowered_by(best, rules)
    families = ladder.found_families(best, whole, rules)
    assert {"ttnn.fused_rms_minimal", "ttnn.experimental.all_gather_async"} <= {*families}
    assert "ttnn.linear" not in families
    for rows in families.values():
        fewer = ladder.lowered_by(best, ladder.without(rules, rows))
        assert not fewer.unsupported and rows.isdisjoint(call.rule for call in fewer.calls)


@pytest.mark.slow
def test_rungs_go_from_the_package_to_what_nothing_stands_in_for(best):
    found = [*ladder.rungs(best)]
    package = ladder.measured(best, compiled("qwen3_galaxy", "galaxy").lowered)
    assert found[0][1] == package
    assert [name == "" for name, _ in found] == [False] * (len(found) - 1) + [True]
    by_rows = [rung.layer_us for name, rung in found if "plan" not in name][:-1]
    assert by_rows == sorted(by_rows) and len({*by_rows}) == len(by_rows)
