"""The cheapest way to split a sequence of ops over the mesh: dynamic programming over the placements of live values.

Ops are visited in order. A state says how each value that is still needed lies (it may lie in several ways, once it was
moved); for each state every strategy of the next op is tried, the collectives its inputs need are added, and of all
ways into a state the cheapest is kept. The result is the optimum of the cost model, up to the cap on states.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

from fx2ttnn.ir import Graph, Op, Placement
from fx2ttnn.ops import POINTWISE
from fx2ttnn.plan.collectives import Step, steps_between
from fx2ttnn.plan.cost import Cost
from fx2ttnn.plan.device_shape import local_shape, split_count, whole_tiles
from fx2ttnn.plan.strategies import strategies
from fx2ttnn.precision import Precision
from fx2ttnn.targets import Target
from fx2ttnn.tiles import TILE

MAX_STATES = 400
FEW_STATES = 20


@dataclass(frozen=True)
class Move:
    """Value `value` is moved from placement `start` by `steps`."""

    value: str
    start: Placement
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Choice:
    """How one op runs: the moves of its inputs before it, and the placements it then reads and writes."""

    op: Op
    moves: tuple[Move, ...]
    inputs: tuple[Placement, ...]
    outputs: tuple[Placement, ...]


@dataclass(frozen=True)
class Solution:
    seconds: float
    choices: tuple[Choice, ...]
    final: tuple[Move, ...]


State = frozenset  # of (value, Placement)


def rows_split(placement: Placement) -> tuple[int | None, ...]:
    """For each mesh axis the dim of heads [users, heads, tokens, size] whose rows it divides: users, tokens, or none of them."""
    return tuple(axis if axis in (0, 2) else None for axis in placement.axes)  # type: ignore[misc]


class Search:
    """Searches segments of one graph for one target and precision.

    `fixed`: placements that are given, by the first output of an op and the value that it reads or writes.
    """

    def __init__(
        self,
        graph: Graph,
        orders: Mapping[str, tuple],
        free: frozenset[str],
        users: int,
        target: Target,
        precision: Precision,
        fixed: Mapping[tuple[str, str], Placement] | None = None,
    ):
        self.graph, self.orders, self.free = graph, orders, free
        self.fixed = fixed or {}
        self.rows_split: tuple[int | None, ...] | None = None  # how attention must divide users and tokens
        self.without_tokens: frozenset[int] = frozenset()  # mesh axes over which attention must not divide tokens
        self.forbidden: tuple[str, tuple[Placement, ...]] | None = None  # an op, by its first output, must not read so
        self.target = target
        self.cost = Cost(graph, users, target, precision)
        self.caches = {out for op in graph.ops if op.name == "update_cache" for out in op.outputs}
        self.mesh = target.mesh_shape
        self._known_moves: dict[tuple[str, Placement, Placement], tuple[Move, float] | None] = {}
        self.filled = filled_up(graph)
        # What no pattern knew has no rows: the model ends in a report, which a poorer plan serves as well.
        self.max_states = MAX_STATES if all("." not in op.name for op in graph.ops) else FEW_STATES

    def solve(
        self, ops: tuple[Op, ...], given: Mapping[str, Placement], wanted: Mapping[str, Placement | None]
    ) -> Solution | None:
        """Cheapest choices for `ops`, when the values `given` lie so, and those `wanted` must at the end.

        None as a wanted placement: any that is no partial sum. Returns None where no sequence of choices works.
        """
        last_use = {v: i for i, op in enumerate(ops) for v in op.inputs}
        last_use.update(dict.fromkeys(wanted, len(ops)))
        states: dict[State, tuple[float, tuple[Choice, ...]]] = {State(given.items()): (0.0, ())}
        for index, op in enumerate(ops):
            options = self._options(op)
            found: dict[State, tuple[float, tuple[Choice, ...]]] = {}
            for state, (seconds, choices) in states.items():
                for inputs, outputs, cost in options:
                    moved = self._moves(op, inputs, state)
                    if moved is None:
                        continue
                    moves, move_cost = moved
                    total = seconds + cost + move_cost
                    here = (
                        set(state)
                        | {(m.value, m.steps[-1].after) for m in moves}
                        | set(zip(op.outputs, outputs, strict=True))
                    )
                    after = State((v, p) for v, p in here if last_use.get(v, -1) > index)
                    if after not in found or total < found[after][0]:
                        found[after] = (total, (*choices, Choice(op, moves, inputs, outputs)))
            cheapest = sorted(found.items(), key=lambda item: item[1][0])
            # Beyond the cap the first states in which all lies whole stay too: from them every op can run on every chip.
            whole = [item for item in cheapest[self.max_states :] if all(set(p.axes) == {"R"} for _, p in item[0])]
            states = dict(cheapest[: self.max_states] + whole[:1])
        return self._finish(states, wanted)

    def _finish(self, states, wanted: Mapping[str, Placement | None]) -> Solution | None:
        best: Solution | None = None
        for state, (seconds, choices) in states.items():
            final: list[Move] = []
            for value, goal in wanted.items():
                goals = [goal] if goal else self._whole(value, state)
                options = [m for g in goals if (m := self._cheapest_move(value, g, state))]
                if not options:
                    break
                move, cost = min(options, key=lambda option: option[1])
                seconds += cost
                final += [move] if move.steps else []
            else:
                if best is None or seconds < best.seconds:
                    best = Solution(seconds, choices, tuple(final))
        return best

    def _whole(self, value: str, state: State) -> list[Placement]:
        """Placements of `value` in `state` without partial sums, each made whole if it has some."""
        found = [p for v, p in state if v == value]
        return [Placement(tuple("R" if a == "P" else a for a in p.axes)) for p in found]

    def _options(self, op: Op) -> list[tuple[tuple[Placement, ...], tuple[Placement, ...], float]]:
        """Every allowed combination of one strategy for each mesh axis, with the op's own time."""
        found = []
        ways = [strategies(self.graph, op) if n > 1 else strategies(self.graph, op)[:1] for n in self.mesh]
        for combination in product(*ways):
            inputs = tuple(Placement(tuple(s.inputs[i] for s in combination)) for i in range(len(op.inputs)))
            outputs = tuple(Placement(tuple(s.outputs[i] for s in combination)) for i in range(len(op.outputs)))
            if self._allowed(op, inputs, outputs):
                found.append((inputs, outputs, self.cost.op(op, inputs)))
        return found

    def _allowed(self, op: Op, inputs: tuple[Placement, ...], outputs: tuple[Placement, ...]) -> bool:
        """Whether every split divides: heads and users evenly, hidden sizes into whole tiles, fused weights unit by unit."""
        if self.forbidden == (op.outputs[0], inputs):
            return False
        if op.name == "attention" and self.rows_split not in (None, rows_split(inputs[0])):
            return False
        if op.name == "attention" and self.without_tokens.intersection(inputs[0].axes_of(2)):
            return False
        for value, placement in zip((*op.inputs, *op.outputs), (*inputs, *outputs), strict=True):
            spec = self.graph.specs[value]
            heads = op.name == "create_qkv_heads"  # their columns are given, which tokens a chip has of them is not
            if self.fixed.get((op.outputs[0], value), placement) not in (
                placement,
                heads and _of_all_tokens(placement),
            ):
                return False
            if value in self.graph.parameters and len(spec.shape) == 1:
                pass  # follows the value it is added to or multiplied with
            for dim, size in enumerate(spec.shape):
                n = split_count(placement, dim, self.mesh)
                if n == 1:
                    continue
                fused = value in self.graph.parameters and dim == 0 and op.attrs.get("units")
                if size % n and not fused and (value, dim) not in self.filled:
                    return False
                contracted = value in op.inputs and dim == len(spec.shape) - 1
                rows = dim == 0 and len(spec.shape) == 3 and op.name != "rotary"  # users are the rows of a tile
                rows_each = 2 * TILE if op.name == "attention" else TILE  # its blocks of keys are that long at least
                if self._is_token_dim(value, dim) and size % (n * rows_each):
                    return False
                if (contracted or rows) and not whole_tiles(local_shape(spec, placement, self.mesh)[dim]):
                    return False
        if op.name == "linear":
            n = split_count(outputs[0], 2, self.mesh)
            return all(unit % n == 0 for unit in op.attrs.get("units", ()))
        return True

    def _is_token_dim(self, value: str, dim: int) -> bool:
        """Whether `dim` holds the tokens of a chunk, which are the rows of the device tensor."""
        return self.graph.name == "prefill" and value in self.orders and self.orders[value][-2] == dim

    def _moves(self, op: Op, inputs: tuple[Placement, ...], state: State) -> tuple[tuple[Move, ...], float] | None:
        moves: dict[tuple[str, Placement], Move] = {}
        total = 0.0
        for value, goal in zip(op.inputs, inputs, strict=True):
            if value in self.graph.parameters or value in self.free or (value, goal) in moves:
                continue
            found = self._cheapest_move(value, goal, state)
            if found is None or (found[0].steps and value in self.caches):  # a cache is read where it was written
                return None
            move, cost = found
            if move.steps:
                moves[value, goal] = move
                total += cost
        return tuple(moves.values()), total

    def _cheapest_move(self, value: str, goal: Placement, state: State) -> tuple[Move, float] | None:
        best: tuple[Move, float] | None = None
        starts = [p for name, p in state if name == value]
        for start in sorted(starts, key=str) if len(starts) > 1 else starts:
            found = self._move(value, start, goal)
            if found is not None and (best is None or found[1] < best[1]):
                best = found
        return best

    def _move(self, value: str, start: Placement, goal: Placement) -> tuple[Move, float] | None:
        """The move from one placement to another and its seconds, which every state asks for anew."""
        key = (value, start, goal)
        if key not in self._known_moves:
            steps = steps_between(self.graph.specs[value], self.orders[value], start, goal, self.mesh)
            cost, here = 0.0, start
            for step in steps or ():
                cost += self.cost.step(step, value, here)
                here = step.after
            self._known_moves[key] = None if steps is None else (Move(value, start, steps), cost)
        return self._known_moves[key]


def _of_all_tokens(placement: Placement) -> Placement:
    """The placement of [users, tokens, size] with every chip's tokens whole."""
    return Placement(tuple("R" if axis == 1 else axis for axis in placement.axes))


def filled_up(graph: Graph) -> frozenset[tuple[str, int]]:
    """Values, and their dim, whose parts need not be equal: the last chips' parts are filled up with zeros.

    These are the columns of the model's outputs, such as the vocabulary's, as far back as each is computed by itself, and the
    rows of the weight that they come from: whoever reads them knows how many there are. No collective moves such a value.
    """
    users = graph.users()
    values = set(graph.outputs)
    found = set()
    for op in reversed(graph.ops):
        if not values.issuperset(op.outputs):
            continue
        if op.name == "linear" and "units" not in op.attrs:
            found |= {(v, 0) for v in op.inputs if v in graph.parameters}
        elif op.name in POINTWISE:
            values |= {v for v in op.inputs if all(values.issuperset(user.outputs) for user in users[v])}
    return frozenset(found | {(v, len(graph.specs[v].shape) - 1) for v in values})
