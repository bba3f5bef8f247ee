"""The step time that the cost model of the plan predicts: with the costs of starting ops and collectives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fx2ttnn.plan import Plan
from fx2ttnn.profile.census import Row
from fx2ttnn.profile.figures import Figure, figures

# What plan/cost.py reads of a target.
_FIGURES = (
    "dram_bandwidth_measured",
    "flops_hifi2",
    "channel_bandwidth",
    "op_seconds",
    "op_gap_seconds",
    "collective_seconds",
    "hop_seconds",
)


@dataclass(frozen=True)
class Predicted:
    """`by_op`: seconds of a step by name of op, the longest first; `by_value`: of one op over all layers, by its first output."""

    seconds: float
    by_op: Mapping[str, float]
    by_value: Mapping[str, float]
    rests_on: tuple[Figure, ...]

    @property
    def tokens_per_second_per_user(self) -> float:
        """A step gives each user one token."""
        return 1 / self.seconds

    def of_row(self, row: Row) -> float:
        """Seconds of all runs of a census row in one step."""
        return sum(self.by_value.get(value, 0.0) for value in row.values)

    def to_json(self) -> dict[str, Any]:
        return {
            "step_seconds": self.seconds,
            "tokens_per_second_per_user": self.tokens_per_second_per_user,
            "seconds_by_op": dict(self.by_op),
            "rests_on": [vars(figure) for figure in self.rests_on],
        }


def predicted(plan: Plan) -> Predicted:
    """Times of the plan's ops, each times the layers that run it."""
    by_value, by_op = plan.step_seconds(), dict.fromkeys((op.name for op in plan.graph.ops), 0.0)
    for op in plan.graph.ops:
        by_op[op.name] += by_value[op.outputs[0]]
    longest = dict(sorted(by_op.items(), key=lambda item: (-item[1], item[0])))
    return Predicted(sum(by_value.values()), longest, by_value, figures(plan.target, _FIGURES))
