"""Decide how every value lies on the mesh, and put collectives where it changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from fx2ttnn.errors import UserError
from fx2ttnn.ir import PARTIAL, Capture, Graph, Op, Placement, Ref, rename
from fx2ttnn.plan.alternatives import Alternative, Solved, alternatives, residual_placements
from fx2ttnn.plan.cost import Cost
from fx2ttnn.plan.device_shape import device_shape, local_shape, orders, split_count, whole_tiles
from fx2ttnn.plan.memory import check_dram, dram_per_chip
from fx2ttnn.plan.search import Choice, Move, Search, Solution, rows_split
from fx2ttnn.plan.segments import Segment, planned_counts, segments, without_folded
from fx2ttnn.precision import PRECISIONS, Precision
from fx2ttnn.targets import Target


@dataclass(frozen=True)
class Plan:
    """The model graph with collectives as ops, where each value lies, and what that is predicted to cost.

    `seconds` holds the predicted time of each op, by its first output; `orders` the device dims of each activation;
    `origins` the captured value of each name that the plan added; `alternatives`, of decode, this plan and those that come next.
    """

    capture: Capture
    target: Target
    precision: Precision
    mode: str
    graph: Graph
    placements: Mapping[str, Placement]
    orders: Mapping[str, tuple[int | None, ...]]
    seconds: Mapping[str, float]
    segments: tuple[Segment, ...]
    residual: Placement
    dram: Mapping[str, int]
    origins: Mapping[str, str]
    alternatives: tuple[Alternative, ...] = ()

    def at_length(self, capture: Capture) -> Plan:
        """This plan for another number of tokens: the same placements, with the shapes of `capture` at that length.

        Raises UserError where the model's graph is another one at that length.
        """
        names = [(op.name, op.outputs) for op in self.capture.graph.ops]
        if names != [(op.name, op.outputs) for op in capture.graph.ops]:
            raise UserError(
                f"{capture.model_name} computes other things for other prompt lengths; that is not supported"
            )
        specs = {value: capture.graph.specs[self.origins.get(value, value)] for value in self.graph.specs}
        known = {op.outputs: op for op in capture.graph.ops}
        ops = tuple(_as_in(op, known[op.outputs]) if op.outputs in known else op for op in self.graph.ops)
        return replace(self, capture=capture, graph=replace(self.graph, specs=specs, ops=ops))

    def attention_axes(self, dim: int) -> frozenset[int]:
        """Mesh axes over which attention divides a dim of its heads: 0 users, 1 heads, 2 tokens."""
        queries = (self.placements[op.inputs[0]] for op in self.graph.ops if op.name == "attention")
        return frozenset(axis for placement in queries for axis in placement.axes_of(dim))

    def device_shape(self, value: str) -> tuple[int, ...]:
        """Shape of one chip's part of `value`, as ttnn sees it."""
        return device_shape(self.graph.specs[value], self.placements[value], self.target.mesh_shape, self.orders[value])

    @property
    def read_by_folded(self) -> set[str]:
        """Values that layers read which are equal to an earlier one, and so not in the plan's graph."""
        folded = {str(value) for op in self.capture.graph.ops if op.name == "layer" for value in op.inputs}
        return {value for value in self.graph.specs if self.origins.get(value, value) in folded}

    def fill(self, value: str) -> int:
        """Columns of zeros that the chips' parts of `value` hold together behind its last one: see `search.filled_up`."""
        spec, placement = self.graph.specs[value], self.placements[value]
        dim = len(spec.shape) - 1
        parts = split_count(placement, dim, self.target.mesh_shape)
        return parts * local_shape(spec, placement, self.target.mesh_shape)[dim] - spec.shape[dim]

    def __str__(self) -> str:
        lines = [
            f"mode {self.mode} on {self.target.name}, residual {self.residual}, predicted {sum(self.seconds.values()) * 1e6:.1f} us"
        ]
        for op in self.graph.ops:
            outs = ", ".join(f"{o} {self.placements.get(o)}" for o in op.outputs)
            ins = ", ".join(f"{v} {self.placements.get(v)}" for v in op.inputs)
            lines.append(
                f"  {op.name}({ins}) -> {outs}  # {op.module} {self.seconds.get(op.outputs[0], 0) * 1e6:.1f} us"
            )
        lines += [f"  {'next' if index else 'taken'}: {plan}" for index, plan in enumerate(self.alternatives)]
        return "\n".join(lines) + "\n"


def plan(
    capture: Capture,
    target: Target,
    precision: Precision = PRECISIONS["performance"],
    decode: Plan | None = None,
    continues: bool = True,
) -> Plan:
    """Place the recognised `capture` on `target`; raises UserError where its weights and cache do not fit.

    With `decode`, the plan of a prefill: weights and caches lie as they do there. A chunk that `continues` a prompt of which the cache holds
    tokens already finds them where decode keeps its user's: chips that do not attend for the user have none, and get none of the chunk's tokens.
    """
    graph = without_folded(capture.graph)
    tables = {out for op in graph.ops if op.name == "position_table" for out in op.outputs}
    free = frozenset({*graph.inputs, *graph.constants, *tables})
    parts = segments(graph, free, planned_counts(capture))
    order = orders(graph)
    fixed = _fixed(graph, decode) if decode else {}
    search = Search(graph, order, free, capture.users, target, precision, fixed)
    search.without_tokens = decode.attention_axes(0) if decode and continues else frozenset()
    reads = [(op.outputs[0], v) for op in graph.ops for v in op.inputs if v in tables]

    def divide_rows(way: tuple[int | None, ...]) -> None:
        search.rows_split = way

    def read_tables(way: Placement) -> None:
        search.fixed = {**fixed, **dict.fromkeys(reads, way)}

    plans = _plans(search, parts, graph)
    plans = _agreed(plans, _rows_splits(plans), divide_rows, search, parts, graph)  # the page table is the model's
    ways = _table_placements(tables, plans)
    plans = _agreed(plans, ways, read_tables, search, parts, graph)  # a table is looked up once
    if not plans:
        raise UserError(f"no placement of the model on {target.name} was found: try a target with fewer chips")
    _, residual, solutions = plans[0]
    built = _Builder(graph, order, search.cost, residual)
    for part, solution in zip(parts, solutions, strict=True):
        built.segment(part, solution)
    result = built.finish(capture, "prefill" if decode else "decode", parts)
    if decode:
        return replace(result, dram=decode.dram)
    dram = dram_per_chip(result.capture, result.placements, result.graph, target, result.precision)
    check_dram(dram, target, capture)
    others = alternatives(search, parts, plans, lambda: _solve(search, parts, residual, graph))
    return replace(result, dram=dram, alternatives=others)


def _as_in(op: Op, other: Op) -> Op:
    """`op` with the constants of `other`, the same op for another number of tokens."""

    def constants(args: tuple, others: tuple) -> tuple:
        pairs = zip(args, others, strict=True)
        return tuple(a if isinstance(a, Ref) else constants(a, b) if isinstance(a, tuple) else b for a, b in pairs)

    return replace(op, attrs={**op.attrs, **other.attrs}, args=constants(op.args, other.args))


def _plans(search: Search, parts: tuple[Segment, ...], graph: Graph) -> list[Solved]:
    """For each way in which the hidden state may lie between layers the cheapest plan, if there is one; the cheapest of all first."""
    found = (_solve(search, parts, residual, graph) for residual in residual_placements(search.target))
    return sorted((one for one in found if one), key=lambda one: one[0])


def _agreed[Way](
    plans: list[Solved],
    ways: list[Way],
    impose: Callable[[Way], None],
    search: Search,
    parts: tuple[Segment, ...],
    graph: Graph,
) -> list[Solved]:
    """`plans`, or where the parts of the first take several `ways` of what they share: those with the one `impose`d that is cheapest for all."""
    if len(ways) < 2:
        return plans
    cheapest: tuple[list[Solved], Way] | None = None
    for way in ways:
        impose(way)
        found = _plans(search, parts, graph)
        if found and (cheapest is None or found[0][0] < cheapest[0][0][0]):
            cheapest = found, way
    if cheapest is None:
        return []
    impose(cheapest[1])
    return cheapest[0]


def _choices(plans: list[Solved]) -> Iterator[Choice]:
    """Those of the first plan."""
    return (choice for _, _, solutions in plans[:1] for solution in solutions for choice in solution.choices)


def _rows_splits(plans: list[Solved]) -> list[tuple[int | None, ...]]:
    """The ways in which attention divides users and tokens over the mesh axes."""
    return list(dict.fromkeys(rows_split(c.inputs[0]) for c in _choices(plans) if c.op.name == "attention"))


def _table_placements(tables: set[str], plans: list[Solved]) -> list[Placement]:
    """Ways in which the position tables are read."""
    read = (p for c in _choices(plans) for v, p in zip(c.op.inputs, c.inputs, strict=True) if v in tables)
    return list(dict.fromkeys(read))


def _fixed(graph: Graph, decode: Plan) -> dict[tuple[str, str], Placement]:
    """Where decode holds the weights and caches, by the first output of the op and the value that it reads or writes.

    A prefill serves one user: where decode divides the users, each chip holds that user's part of the cache.
    """
    held = {op.outputs: op for op in decode.graph.ops}
    names = decode.graph.parameters
    fixed: dict[tuple[str, str], Placement] = {}
    for op in graph.ops:
        twin = held.get(op.outputs)
        if twin is None:
            continue
        by_source = {names[v]: decode.placements[v] for v in twin.inputs if v in names}
        fixed |= {
            (op.outputs[0], v): by_source[source]
            for v in op.inputs
            if (source := graph.parameters.get(v, "")) in by_source
        }
        if op.name == "update_cache":
            for out in op.outputs:
                fixed[op.outputs[0], out] = _of_one_user(decode.placements[out])
        if op.name == "create_qkv_heads":  # in so many parts the fused weight lies
            fixed[op.outputs[0], op.args[0]] = _of_one_user(decode.placements[twin.args[0]])
    return fixed


def _of_one_user(placement: Placement) -> Placement:
    """The placement with every user's part whole: where users are divided, each chip has the one user of a prefill."""
    return Placement(tuple("R" if axis == 0 else axis for axis in placement.axes))


def _solve(search: Search, parts: tuple[Segment, ...], residual: Placement, graph: Graph) -> Solved | None:
    """The cheapest plan in which the hidden state lies so between layers."""
    found = []
    for part in parts:
        given = dict.fromkeys(part.reads, residual)
        wanted = {v: None if v in graph.outputs else residual for v in part.writes}
        solution = search.solve(part.ops, given, wanted) if _divides(search, residual, part) else None
        if solution is None:
            return None
        found.append(solution)
    return sum(part.count * s.seconds for part, s in zip(parts, found, strict=True)), residual, found


def _divides(search: Search, residual: Placement, part: Segment) -> bool:
    for value in (*part.reads, *(w for w in part.writes if w not in search.graph.outputs)):
        shape = search.graph.specs[value].shape
        if any(not isinstance(dim, str) and dim >= len(shape) for dim in residual.axes):
            return False
        for dim, size in enumerate(shape):
            n = split_count(residual, dim, search.mesh)
            if size % n or (n > 1 and dim == 2 and not whole_tiles(size // n)):
                return False
    return True


_SUFFIX = {
    "all_reduce": "reduced",
    "reduce_scatter": "scattered",
    "all_gather": "gathered",
    "mesh_partition": "partitioned",
}


class _Builder:
    """Turns solutions into one graph with collectives in it."""

    def __init__(
        self,
        graph: Graph,
        order: Mapping[str, tuple],
        cost: Cost,
        residual: Placement,
    ):
        self.graph, self.cost, self.residual = graph, cost, residual
        self.target, self.precision = cost.target, cost.precision
        self.orders = dict(order)
        self.specs = dict(graph.specs)
        self.parameters = dict(graph.parameters)
        self.placements: dict[str, Placement] = {}
        self.names: dict[tuple[str, Placement], str] = {}
        self.seconds: dict[str, float] = {}
        self.ops: list[Op] = []
        self.tables: dict[tuple[str, Placement], str] = {}
        self.origins: dict[str, str] = {}

    def segment(self, part: Segment, solution: Solution) -> None:
        """Append the ops of a solved segment."""
        # The layers that equal this one get what it reads between layers only: how else an earlier segment held that is forgotten.
        self.names = {
            (v, place): name for (v, place), name in self.names.items() if v not in part.reads or place == self.residual
        }
        for value in part.reads:
            if (value, self.residual) not in self.names:  # else an earlier segment moved it there, under another name
                self._place(value, value, self.residual)
        early: dict[str, list[Move]] = {}  # partial sums are completed where they arise
        made = {out for choice in solution.choices for out in choice.op.outputs}
        for move in [m for c in solution.choices for m in c.moves] + list(solution.final):
            if PARTIAL in move.start.axes and move.value in made:
                early.setdefault(move.value, []).append(move)
        for choice in solution.choices:
            for move in choice.moves:
                if move not in early.get(move.value, ()):
                    self._move(move, choice.op.module)
            self._op(choice)
            for out in choice.op.outputs:
                for move in early.get(out, ()):
                    self._move(move, choice.op.module)
        for move in solution.final:
            if move not in early.get(move.value, ()):
                self._move(move, _outer(part))

    def _op(self, choice: Choice) -> None:
        renamed: dict[str, str] = {}
        for value, placement in zip(choice.op.inputs, choice.inputs, strict=True):
            if value in self.graph.parameters:
                renamed[value] = self._parameter(value, placement)
            elif (value, placement) in self.names:
                renamed[value] = self.names[value, placement]
            else:  # a model input or a position table: it lies as its readers want it
                renamed[value] = self._free(value, placement)
        self.ops.append(replace(choice.op, args=rename(choice.op.args, renamed)))
        for value, placement in zip(choice.op.outputs, choice.outputs, strict=True):
            self._place(value, value, placement)
        self.seconds[choice.op.outputs[0]] = self.cost.op(choice.op, choice.inputs)

    def _parameter(self, value: str, placement: Placement) -> str:
        """Name of the parameter that lies as `placement`: a tied weight may be stored twice, once for each of its uses."""
        name = value
        while self.placements.setdefault(name, placement) != placement:
            name += "_again"
            self.parameters[name] = self.graph.parameters[value]
            self.specs[name] = self.graph.specs[value]
            self.origins[name] = value
        return name

    def _free(self, value: str, placement: Placement) -> str:
        """Name of the free value that lies as `placement`: the value itself for the first, a copy for any further placement."""
        if (value, placement) not in self.tables:
            taken = sum(v == value for v, _ in self.tables)
            name = value if not taken else f"{value}_{taken + 1}"
            self.tables[value, placement] = name
            self.placements[name] = placement
            self.specs[name] = self.graph.specs[value]
            self.orders[name] = self.orders[value]
            self.origins[name] = value
        return self.tables[value, placement]

    def _move(self, move: Move, module: str) -> None:
        name, here = self.names[move.value, move.start], move.start
        for step in move.steps:
            if (move.value, step.after) not in self.names:
                out = self._fresh(f"{move.value}_{_SUFFIX[step.name]}")
                self.specs[out] = self.graph.specs[move.value]
                self.origins[out] = move.value
                self.orders[out] = self.orders[move.value]
                attrs = {"axis": step.axis} | ({} if step.dim is None else {"dim": step.dim})
                self.ops.append(Op(step.name, (Ref(name),), (out,), attrs, module, ()))
                self.seconds[out] = self.cost.step(step, move.value, here)
                self._place(move.value, out, step.after)
            name, here = self.names[move.value, step.after], step.after

    def _place(self, value: str, name: str, placement: Placement) -> None:
        self.names[value, placement] = name
        self.placements[name] = placement

    def _fresh(self, stem: str) -> str:
        name, n = stem, 1
        while name in self.specs:
            n += 1
            name = f"{stem}_{n}"
        return name

    def finish(self, capture: Capture, mode: str, parts: tuple[Segment, ...]) -> Plan:
        """The plan: position tables first, then the segments, then the folded layers for the record."""
        tables = []
        for op in self.graph.ops:
            if op.name == "position_table":
                for (value, placement), name in list(self.tables.items()):
                    if value == op.outputs[0]:
                        ids = self._free(op.args[0], placement)
                        tables.append(replace(op, args=(Ref(ids),), outputs=(name,)))
                        self.seconds[name] = self.cost.unmeasured
        outputs = []
        for value in self.graph.outputs:
            names = [n for (v, p), n in self.names.items() if v == value and PARTIAL not in p.axes]
            outputs.append(names[-1])
        inputs = tuple(name for (value, _), name in self.tables.items() if value in self.graph.inputs)
        graph = replace(
            self.graph,
            ops=(*tables, *self._in_parts()),
            specs=self.specs,
            parameters=self.parameters,
            inputs=inputs,
            outputs=tuple(outputs),
        )
        return Plan(
            capture,
            self.target,
            self.precision,
            mode,
            graph,
            self.placements,
            self.orders,
            self.seconds,
            parts,
            self.residual,
            {},
            self.origins,
        )

    def _in_parts(self) -> Iterator[Op]:
        """The ops; fused projections with `parts`, over how many chips their reader splits the columns.

        Each of so many equal slices holds its share of query, key and value. The weight itself may lie in fewer parts, where its
        product is scattered further, or in more, where it is gathered.
        """
        heads = [op for op in self.ops if op.name == "create_qkv_heads"]
        read = {self.origins.get(op.args[0], op.args[0]): self.placements[op.args[0]] for op in heads}
        for op in self.ops:
            fused = op.name == "linear" and "units" in op.attrs
            parts = split_count(read[op.outputs[0]], 2, self.target.mesh_shape) if fused else None
            yield replace(op, attrs={**op.attrs, "parts": parts}) if fused else op


def _outer(part: Segment) -> str:
    return part.layer or part.ops[-1].module
