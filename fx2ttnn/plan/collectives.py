"""Moving a value from one placement to another: which collectives, in which order, and whether the chip can do them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import permutations

from fx2ttnn.ir import PARTIAL, REPLICATED, Placement, TensorSpec
from fx2ttnn.plan.device_shape import local_shape, whole_tiles


@dataclass(frozen=True)
class Step:
    """One collective over mesh axis `axis`; `dim` is the logical dim it gathers or splits; `after` is the resulting placement."""

    name: str
    axis: int
    dim: int | None
    after: Placement


@cache
def steps_between(
    spec: TensorSpec, order: tuple[int | None, ...], start: Placement, goal: Placement, mesh: tuple[int, ...]
) -> tuple[Step, ...] | None:
    """The collectives that turn `start` into `goal`, fewest bytes first; None if no sequence is possible."""
    axes = [i for i, (a, b) in enumerate(zip(start.axes, goal.axes, strict=True)) if a != b]
    best: tuple[Step, ...] | None = None
    for sequence in permutations(axes):
        steps = _along(spec, order, start, goal, mesh, sequence)
        if steps is not None and (best is None or _weight(spec, steps, mesh) < _weight(spec, best, mesh)):
            best = steps
    return best


def _along(spec, order, start, goal, mesh, sequence) -> tuple[Step, ...] | None:
    here = start
    steps: list[Step] = []
    for axis in sequence:
        for name, dim, entry in _moves(here.axes[axis], goal.axes[axis]):
            there = here.on(axis, entry)
            if name is None or not _possible(spec, order, here, there, axis, dim, mesh):
                return None
            steps.append(Step(name, axis, dim, there))
            here = there
    return tuple(steps)


def _moves(start: str | int, goal: str | int) -> list[tuple[str | None, int | None, str | int]]:
    if goal == PARTIAL:
        return [(None, None, goal)]
    if start == PARTIAL:
        return [("all_reduce", None, goal)] if goal == REPLICATED else [("reduce_scatter", int(goal), goal)]
    if start == REPLICATED:
        return [("mesh_partition", int(goal), goal)]
    gather = ("all_gather", int(start), REPLICATED)
    return [gather] if goal == REPLICATED else [gather, ("mesh_partition", int(goal), goal)]


def _possible(spec, order, here: Placement, there: Placement, axis: int, dim: int | None, mesh) -> bool:
    """A dim split over two axes is split over the first of them first; rows and columns are split in whole tiles."""
    if dim is None:
        return True
    if dim >= len(spec.shape) or any(other > axis for other in here.axes_of(dim)):
        return False
    if spec.shape[dim] % _parts(here, there, dim, mesh):
        return False
    smaller = min(local_shape(spec, p, mesh)[dim] for p in (here, there))
    is_tile_dim = dim in order[2:]
    return not is_tile_dim or whole_tiles(smaller)


def _parts(here: Placement, there: Placement, dim: int, mesh) -> int:
    n = 1
    for axis in set(here.axes_of(dim)) | set(there.axes_of(dim)):
        n *= mesh[axis]
    return n


def _weight(spec: TensorSpec, steps: tuple[Step, ...], mesh) -> int:
    total = 0
    for step in steps:
        size = 1
        for n in local_shape(spec, step.after, mesh):
            size *= n
        total += size
    return total
