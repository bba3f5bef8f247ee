"""A package's decode layer beside one that was planned by hand: operation by operation, aligned by the part of the layer that they do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fx2ttnn.cost.calls import Load
from fx2ttnn.errors import UserError
from fx2ttnn.report.data import Report
from fx2ttnn.report.device_ops import StepOp, StepOps
from fx2ttnn.report.hand_plan import HandPlan, LayerOp
from fx2ttnn.report.roles import PARTS, parts_of

PREDICTED, GUESSED = "predicted", "guessed"  # the second: of an operation whose time nobody published


@dataclass(frozen=True)
class Line:
    """An operation of either side: `us` with the gaps before its `count` device operations; `time`: what kind of figure that is.

    `dtype`: of a matmul's weight, else of what is read first; empty where it is not known.
    """

    name: str
    parts: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    us: float
    time: str
    count: int = 1
    move: bool = False  # brings what another operation reads to where that wants it

    @property
    def bare_shape(self) -> tuple[int, ...]:
        """Without dims of one, which say nothing of the work."""
        return tuple(n for n in self.shape if n > 1)


@dataclass(frozen=True)
class Row:
    """What both sides do for the same parts of a layer. One of them may have nothing."""

    parts: tuple[str, ...]
    ours: tuple[Line, ...]
    theirs: tuple[Line, ...]

    @property
    def ours_us(self) -> float:
        return sum(line.us for line in self.ours)

    @property
    def theirs_us(self) -> float:
        return sum(line.us for line in self.theirs)

    @property
    def slower_by(self) -> float:
        """Microseconds that ours takes more; negative where it takes less."""
        return self.ours_us - self.theirs_us

    @property
    def unlike(self) -> tuple[str, ...]:
        """What the first operations of both sides for one of the parts do not have alike: `other shape`, `other type`."""
        found: dict[str, None] = {}
        for part in self.parts:
            sides = (
                [line for line in side if part in line.parts and not line.move] for side in (self.ours, self.theirs)
            )
            known = [side[0] for side in sides if side]
            if len({line.bare_shape for line in known if line.shape}) > 1:
                found["other shape"] = None
            if len({line.dtype for line in known if line.dtype}) > 1:
                found["other type"] = None
        return tuple(found)


@dataclass(frozen=True)
class Comparison:
    """Rows in the order of a layer; `ours_tail_us`: what stands around the layers, with sampling. All in microseconds."""

    title: str
    plan: HandPlan
    layer: str
    layers: int
    rows: tuple[Row, ...]
    ours_tail_us: float
    ours_step_us: float
    remarks: tuple[str, ...]

    @property
    def ours_layer_us(self) -> float:
        return sum(row.ours_us for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        plan = self.plan
        return {
            "package": self.title,
            "plan": {"model": plan.model, "target": plan.target, "source": plan.source, "notes": plan.notes},
            "users": plan.users,
            "context": plan.context,
            "remarks": list(self.remarks),
            "rows": [_row_json(row) for row in self.rows],
            "layer": {"name": self.layer, "ours_us": self.ours_layer_us, "theirs_us": plan.layer_us},
            "layers": {"ours": self.layers, "theirs": plan.layers},
            "tail": {"ours_us": self.ours_tail_us, "theirs_us": plan.tail_us},
            "step": {"ours_us": self.ours_step_us, "theirs_us": plan.step_us, "theirs_source": plan.step_source},
        }


def compare(report: Report, plan: HandPlan) -> Comparison:
    """The layer that the package has most often, at the plan's users and tokens. UserError where the package has no such step."""
    mode = report.graph["modes"]["decode"]
    layers = [part for part in mode["parts"] if part["layer"]]
    if not layers:
        raise UserError(f"{report.package} has no layers to compare with a plan's")
    ops = StepOps(report, Load(plan.users, plan.context))
    part = max(layers, key=lambda found: found["count"])
    done = parts_of(part)
    ours = [_line(op, done) for op in ops.of_part(part, mode["gap_us"])]
    theirs = [_hand_line(op) for op in plan.layer]
    step = [(number, op.us) for _, number, op in ops.of_step()]
    return Comparison(
        title=report.title,
        plan=plan,
        layer=part["name"],
        layers=len(mode["order"]),
        rows=tuple(_aligned(ours, theirs)),
        ours_tail_us=sum(us for number, us in step if number is None),
        ours_step_us=sum(us for _, us in step),
        remarks=tuple(_remarks(report, plan, len(layers))),
    )


def _line(op: StepOp, done: dict[str, str]) -> Line:
    members = [done[member] for member in op.call["members"] if member in done] or [done[op.node["id"]]]
    parts = tuple(dict.fromkeys(members))
    time = PREDICTED if op.measured else GUESSED
    return Line(op.name, parts, op.shape, op.dtype, op.us, time, move=op.call["move"])


def _hand_line(op: LayerOp) -> Line:
    return Line(op.name, tuple(op.parts), tuple(op.shape), op.dtype, op.us, op.time, op.count)


def _aligned(ours: Sequence[Line], theirs: Sequence[Line]) -> Iterator[Row]:
    """Lines of both sides that share a part, directly or by way of others, in one row."""
    groups: list[set[str]] = []
    for line in (*ours, *theirs):
        touched = [group for group in groups if group & {*line.parts}]
        groups = [group for group in groups if group not in touched] + [set(line.parts).union(*touched)]
    for group in sorted(groups, key=lambda found: min(map(PARTS.index, found))):
        parts = tuple(sorted(group, key=PARTS.index))
        yield Row(
            parts,
            tuple(line for line in ours if group & {*line.parts}),
            tuple(line for line in theirs if group & {*line.parts}),
        )


def _remarks(report: Report, plan: HandPlan, kinds: int) -> Iterator[str]:
    """What makes the two less alike than they look."""
    if report.graph["target"] != plan.target:
        yield f"the package is for {report.graph['target']}, the plan for {plan.target}"
    if kinds > 1:
        yield f"the package has {kinds} kinds of layers: the one that it has most often is compared"


def _row_json(row: Row) -> dict[str, Any]:
    return {
        "parts": list(row.parts),
        "ours": [vars(line) for line in row.ours],
        "theirs": [vars(line) for line in row.theirs],
        "ours_us": row.ours_us,
        "theirs_us": row.theirs_us,
        "slower_by_us": row.slower_by,
        "unlike": list(row.unlike),
    }
