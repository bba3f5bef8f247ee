"""What a decode step computes and moves, and how fast it can be on a target. Nothing here ran on a device."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import networkx as nx

from fx2ttnn.ir import Capture
from fx2ttnn.lower.values import Lowered
from fx2ttnn.plan import Plan
from fx2ttnn.precision import PRECISIONS, Precision
from fx2ttnn.profile.census import Row, census
from fx2ttnn.profile.graph import node_link, op_graph, to_dot
from fx2ttnn.profile.predicted import Predicted, predicted
from fx2ttnn.profile.roofline import Roofline, rooflines
from fx2ttnn.profile.totals import Totals, totals, users_of
from fx2ttnn.targets import Target

NOTE = "Predicted from shapes and the figures named under rests_on; nothing ran on a device. The KV cache is taken as full."


@dataclass(frozen=True)
class Profile:
    """The profile of one step for `batch` users with a full cache of `max_seq_len` positions; `step` only with the calls of a plan.

    `rows` is what the step computes: the users, and idle rows up to a whole tile.
    """

    model: str
    target: str
    chips: int
    precision: str
    batch: int
    rows: int
    max_seq_len: int
    totals: Totals
    census: tuple[Row, ...]
    graph: nx.DiGraph
    rooflines: tuple[Roofline, ...]
    step: Predicted | None

    def to_json(self) -> dict[str, Any]:
        """Plain values for `json.dumps`, the same for the same input.

        Times in seconds, sizes in bytes; a census row's FLOPs and bytes are of one run.
        """
        return {
            "model": self.model,
            "target": self.target,
            "chips": self.chips,
            "precision": self.precision,
            "batch": self.batch,
            "rows": self.rows,
            "max_seq_len": self.max_seq_len,
            "totals": asdict(self.totals),
            "census": [row.to_json() for row in self.census],
            "predicted": {
                "note": NOTE,
                "lower_bounds": [bound.to_json() for bound in self.rooflines],
                "step": self.step.to_json() if self.step else None,
            },
            "graph": node_link(self.graph),
        }

    def to_dot(self) -> str:
        """The graph as Graphviz text."""
        return to_dot(self.graph)


def profile(
    capture: Capture,
    target: Target,
    precision: Precision = PRECISIONS["performance"],
    plan: Plan | None = None,
    lowered: Lowered | None = None,
) -> Profile:
    """Profile the recognised `capture` on `target`; with the ttnn calls of the `plan` a step is predicted from them.

    ValueError for a plan that is of another target or precision.
    """
    if plan is not None and (plan.target, plan.precision) != (target, precision):
        raise ValueError(
            f"the plan is for {plan.target.name} at {plan.precision.name}, not {target.name} at {precision.name}"
        )
    rows = census(capture.graph, precision, capture.users)
    return Profile(
        model=capture.model_name,
        target=target.name,
        chips=target.chips,
        precision=precision.name,
        batch=users_of(capture),
        rows=capture.batch,
        max_seq_len=capture.max_seq_len,
        totals=totals(capture, rows, precision),
        census=rows,
        graph=op_graph(capture, precision),
        rooflines=rooflines(capture, target, precision, plan),
        step=predicted(plan, lowered) if plan and lowered else None,
    )
