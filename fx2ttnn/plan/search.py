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
from fx2ttnn.ops import POINTWISE, Strategy
from fx2ttnn.plan.collectives import Step, steps_between
from fx2ttnn.plan.cost import Cost
from fx2ttnn.plan.device_shape import local_shape, split_count, whole_tiles
from fx2ttnn.plan.strategies import strategies
from fx2ttnn.precision import Precision
from fx2ttnn.targets import Target
from fx2ttnn.tiles import TILE

MAX_STATES = 400
FEW_STATES = 20
COMPARED = 4  # cheapest states, one of which makes most others superfluous


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


Place = tuple[str, Placement]  # a value, and how it lies
State = frozenset[Place]


@dataclass(frozen=True)
class Option:
    """One way to run an op, and its own seconds. `needs`: its inputs that may have to be moved; `makes`: its outputs."""

    inputs: tuple[Placement, ...]
    outputs: tuple[Placement, ...]
    needs: tuple[Place, ...]
    makes: tuple[Place, ...]
    seconds: float


@dataclass(frozen=True)
class Path:
    """The cheapest way into a state: its last choice, and the way into the state before it."""

    seconds: float
    before: Path | None = None
    op: Op | None = None
    option: Option | None = None
    moves: tuple[Move, ...] = ()

    @property
    def choices(self) -> tuple[Choice, ...]:
        """From the first on."""
        found = []
        path: Path | None = self
        while path and path.op and path.option:
            found.append(Choice(path.op, path.moves, path.option.inputs, path.option.outputs))
            path = path.before
        return tuple(reversed(found))


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
        self._known_options: dict[str, list[Option]] = {}
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
        states: dict[State, Path] = {State(given.items()): Path(0.0)}
        for index, op in enumerate(ops):
            options = [option for option in self._options(op) if self._permitted(op, option)]
            found: dict[State, Path] = {}
            for state, path in states.items():
                lies = _lies(state)
                stays = State(place for place in state if last_use.get(place[0], -1) > index)
                ways: dict[Place, tuple[Move, float] | None] = {}
                for option in options:
                    taken = self._moves(option, lies, ways)
                    if taken is None:
                        continue
                    seconds = path.seconds + option.seconds + sum(cost for _, cost in taken)
                    places = (*option.needs, *option.makes)
                    after = stays.union([place for place in places if last_use.get(place[0], -1) > index])
                    if after not in found or seconds < found[after].seconds:
                        moves = tuple(move for move, _ in taken if move.steps)
                        found[after] = Path(seconds, path, op, option, moves)
            cheapest = self._worth_keeping(sorted(found.items(), key=lambda item: item[1].seconds))
            # Beyond the cap the first states in which all lies whole stay too: from them every op can run on every chip.
            whole = [item for item in cheapest[self.max_states :] if all(set(p.axes) == {"R"} for _, p in item[0])]
            states = dict(cheapest[: self.max_states] + whole[:1])
        return self._finish(states, wanted)

    def _worth_keeping(self, ways: list[tuple[State, Path]]) -> list[tuple[State, Path]]:
        """Of states with the ways into them, the cheapest first, those that no move of values makes of a cheaper one for less."""
        kept: list[tuple[State, Path]] = []
        cheaper: list[tuple[dict[str, list[Placement]], float]] = []
        for state, path in ways:
            if any(self._makes(lies, state, path.seconds - seconds) for lies, seconds in cheaper):
                continue
            kept.append((state, path))
            if len(cheaper) < COMPARED:
                cheaper.append((_lies(state), path.seconds))
        return kept

    def _makes(self, lies: Mapping[str, list[Placement]], state: State, seconds: float) -> bool:
        """Whether what `lies` so becomes `state` in less than `seconds`."""
        for place in state:
            way = self._cheapest_move(*place, lies)
            if way is None:
                return False
            seconds -= way[1]
            if seconds <= 0:
                return False
        return True

    def _finish(self, states: Mapping[State, Path], wanted: Mapping[str, Placement | None]) -> Solution | None:
        best: tuple[float, Path, tuple[Move, ...]] | None = None
        for state, path in states.items():
            seconds, final, lies = path.seconds, [], _lies(state)
            for value, goal in wanted.items():
                goals = [goal] if goal else [_complete(placement) for placement in lies.get(value, ())]
                ways = [way for g in goals if (way := self._cheapest_move(value, g, lies))]
                if not ways:
                    break
                move, cost = min(ways, key=lambda way: way[1])
                seconds += cost
                final += [move] if move.steps else []
            else:
                if best is None or seconds < best[0]:
                    best = seconds, path, tuple(final)
        return Solution(best[0], best[1].choices, best[2]) if best else None

    def _options(self, op: Op) -> list[Option]:
        """Every combination of one strategy for each mesh axis that the shapes allow; every state, and every hidden state, asks anew."""
        known = self._known_options.get(op.outputs[0])
        if known is None:
            ways = [strategies(self.graph, op) if n > 1 else strategies(self.graph, op)[:1] for n in self.mesh]
            found = (self._option(op, combination) for combination in product(*ways))
            known = self._known_options[op.outputs[0]] = [option for option in found if option]
        return known

    def _option(self, op: Op, combination: tuple[Strategy, ...]) -> Option | None:
        inputs = tuple(Placement(tuple(s.inputs[i] for s in combination)) for i in range(len(op.inputs)))
        outputs = tuple(Placement(tuple(s.outputs[i] for s in combination)) for i in range(len(op.outputs)))
        if not self._allowed(op, inputs, outputs):
            return None
        read = zip(op.inputs, inputs, strict=True)
        needs = dict.fromkeys((v, p) for v, p in read if v not in self.graph.parameters and v not in self.free)
        makes = tuple(zip(op.outputs, outputs, strict=True))
        return Option(inputs, outputs, tuple(needs), makes, self.cost.op(op, inputs))

    def _permitted(self, op: Op, option: Option) -> bool:
        """Whether an option keeps to what is imposed on the search."""
        inputs = option.inputs
        if self.forbidden == (op.outputs[0], inputs):
            return False
        if op.name == "attention" and self.rows_split not in (None, rows_split(inputs[0])):
            return False
        if op.name == "attention" and self.without_tokens.intersection(inputs[0].axes_of(2)):
            return False
        heads = op.name == "create_qkv_heads"  # their columns are given, which tokens a chip has of them is not
        for value, placement in zip((*op.inputs, *op.outputs), (*inputs, *option.outputs), strict=True):
            fixed = self.fixed.get((op.outputs[0], value), placement)
            if fixed not in (placement, heads and _of_all_tokens(placement)):
                return False
        return True

    def _allowed(self, op: Op, inputs: tuple[Placement, ...], outputs: tuple[Placement, ...]) -> bool:
        """Whether every split divides: heads and users evenly, hidden sizes into whole tiles, fused weights unit by unit."""
        for value, placement in zip((*op.inputs, *op.outputs), (*inputs, *outputs), strict=True):
            spec = self.graph.specs[value]
            if value in self.graph.parameters and len(spec.shape) == 1:
                pass  # follows the value it is added to or multiplied with
            for dim, size in enumerate(spec.shape):
                n = split_count(placement, dim, self.mesh)
                if n == 1:
                    continue
                fused = value in self.graph.parameters and dim == 0 and op.attrs.get("units")
                if size % n and not fused and (value, dim) not in self.filled:
                    return False
                contracted = value in op.inputs and dim == len(spec.shape) - 1 and (value, dim) not in self.filled
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

    def _moves(
        self, option: Option, lies: Mapping[str, list[Placement]], ways: dict[Place, tuple[Move, float] | None]
    ) -> list[tuple[Move, float]] | None:
        """How each value comes to where `option` needs it, and its seconds; None where one cannot. `ways` keeps those that were found."""
        taken = []
        for place in option.needs:
            if place not in ways:
                ways[place] = self._cheapest_move(*place, lies)
            if (way := ways[place]) is None:
                return None
            taken.append(way)
        return taken

    def _cheapest_move(
        self, value: str, goal: Placement, lies: Mapping[str, list[Placement]]
    ) -> tuple[Move, float] | None:
        """The cheapest way to `goal` and its seconds, from any place where the value lies."""
        best: tuple[Move, float] | None = None
        for start in lies.get(value, ()):
            found = self._move(value, start, goal)
            if found is not None and (best is None or found[1] < best[1]):
                best = found
        return best

    def _move(self, value: str, start: Placement, goal: Placement) -> tuple[Move, float] | None:
        """The move from one placement to another and its seconds, which every state asks for anew."""
        key = (value, start, goal)
        if key not in self._known_moves:
            steps = steps_between(self.graph.specs[value], self.orders[value], start, goal, self.mesh)
            if steps and value in self.caches:  # a cache is read where it was written
                steps = None
            cost, here = 0.0, start
            for step in steps or ():
                cost += self.cost.step(step, value, here)
                here = step.after
            self._known_moves[key] = None if steps is None else (Move(value, start, steps), cost)
        return self._known_moves[key]


def _lies(state: State) -> dict[str, list[Placement]]:
    """The ways in which each value lies, in a fixed order."""
    found: dict[str, list[Placement]] = {}
    for value, placement in state:
        found.setdefault(value, []).append(placement)
    return {value: sorted(ways, key=str) if len(ways) > 1 else ways for value, ways in found.items()}


def _complete(placement: Placement) -> Placement:
    """`placement` with its partial sums made whole."""
    return Placement(tuple("R" if a == "P" else a for a in placement.axes))


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
