"""What else the planner could have chosen: the best plan in which one matmul of a layer, or the hidden state between layers, lies otherwise.

They answer the question why a plan was taken, and show how near the next ones are: nearer than the cost model is right, any of them may be the faster.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from fx2ttnn.ir import Graph, Placement
from fx2ttnn.ops import NORMS
from fx2ttnn.plan.search import Choice, Search, Solution
from fx2ttnn.plan.segments import Segment
from fx2ttnn.targets import Target

COUNT = 5  # of them are told


@dataclass(frozen=True)
class Alternative:
    """Seconds of a step as the planner prices it, collectives of the layer that the model has most often, and how its matmuls lie.

    `matmuls`: by module, how the result lies; the first of all is the plan that was taken.
    """

    seconds: float
    residual: str
    collectives: int
    matmuls: Mapping[str, str]

    def __str__(self) -> str:
        matmuls = ", ".join(f"{module} {lies}" for module, lies in self.matmuls.items())
        return (
            f"{self.seconds * 1e3:.2f} ms, residual {self.residual}, {self.collectives} collectives a layer, {matmuls}"
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "step_seconds": self.seconds,
            "residual": self.residual,
            "collectives": self.collectives,
            "matmuls": dict(self.matmuls),
        }


Solved = tuple[
    float, Placement, list[Solution]
]  # seconds of a step, how the hidden state lies between layers, a solution for each part


def alternatives(
    search: Search, parts: tuple[Segment, ...], plans: list[Solved], solve: Callable[[], Solved | None]
) -> tuple[Alternative, ...]:
    """The first of `plans`, which was taken, and the next ones. `solve` finds the cheapest whose hidden state lies as in that one."""
    layer = max(range(len(parts)), key=lambda index: (parts[index].layer is not None, parts[index].count))
    solved: list[Solved | None] = [*plans]
    for choice in plans[0][2][layer].choices:
        if choice.op.name == "linear":
            search.forbidden = (choice.op.outputs[0], choice.inputs)
            solved.append(solve())
    search.forbidden = None
    found = sorted((_described(one, layer, search.graph) for one in solved if one), key=lambda a: a.seconds)
    distinct = {(a.residual, a.collectives, *a.matmuls.values()): a for a in reversed(found)}
    return tuple(sorted(distinct.values(), key=lambda a: a.seconds)[:COUNT])


def residual_placements(target: Target) -> list[Placement]:
    """Ways in which the hidden state may lie between layers: whole, split by users, tokens or hidden size, for each axis."""
    ways: list[tuple[str | int, ...]] = [("R", 0, 1, 2) if n > 1 else ("R",) for n in target.mesh_shape]
    return [Placement(p) for p in product(*ways)]


def _described(solved: Solved, layer: int, graph: Graph) -> Alternative:
    seconds, residual, solutions = solved
    choices = solutions[layer].choices
    moves = [move for choice in choices for move in choice.moves] + list(solutions[layer].final)
    crossing = sum(step.name != "mesh_partition" for move in moves for step in move.steps)
    exchanged = sum(_split_row(choice, graph) for choice in choices if choice.op.name in NORMS)
    matmuls = {choice.op.module: str(choice.outputs[0]) for choice in choices if choice.op.name == "linear"}
    return Alternative(seconds, str(residual), crossing + exchanged, matmuls)


def _split_row(choice: Choice, graph: Graph) -> bool:
    """Whether a norm's row is split, so that its statistics are exchanged."""
    return bool(choice.inputs[0].axes_of(len(graph.specs[choice.op.inputs[0]].shape) - 1))
