"""Join planned operations that one call computes: the rows of lowering_rules/ that name a `chain`.

What stands between the operations of a chain is read by nothing else, unless the row gives it as a result. The joined operation stands
where the last of them stood, and belongs to their innermost module.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from fx2ttnn.graph.verify import verify
from fx2ttnn.ir import Graph, Op, Ref
from fx2ttnn.lower.facts import Facts
from fx2ttnn.lower.lines import Line
from fx2ttnn.lower.rules import Rule, load_rules
from fx2ttnn.names import layer_of, lies_in
from fx2ttnn.plan import Plan

Bound = dict[str, Any]  # what the names of a chain stand for: arguments, and values that it makes


def fuse(plan: Plan, rules: tuple[Rule, ...] | None = None) -> Plan:
    """The plan with chains joined, longer chains first; an op's `chain` holds what it was before. Nothing else of the plan changes.

    Raises GraphError where the operations in their new order are no graph.
    """
    rules = load_rules() if rules is None else rules
    chains = [rule for rule in rules if rule.chain and rule.mode in (plan.mode, "any")]
    kept, facts, graph = plan.read_by_folded, Facts(plan), plan.graph
    for rule in sorted(chains, key=lambda rule: (-len(rule.chain), -rule.specificity)):
        for last in graph.ops:
            if found := _matched(rule, last, graph):
                joined = _joined(rule, *found)
                if (
                    joined
                    and _free(rule, joined, *found, graph, kept)
                    and not facts.unfit(joined, rule, facts.operands(joined, rule))
                ):
                    graph = _with(graph, joined)
    verify(_apart(graph), "fuse")
    return replace(plan, graph=graph)


def _apart(graph: Graph) -> Graph:
    """The graph with the chains' operations where the joined one stands: what is computed, and in which order."""
    return graph.with_ops(tuple(member for op in graph.ops for member in op.members))


def _matched(rule: Rule, last: Op, graph: Graph) -> tuple[tuple[Op, ...], Bound] | None:
    """The operations of a chain that ends with `last`, in order, and what its names stand for."""
    if last.name != rule.chain[-1].function:
        return None
    bound: Bound = {}
    producers, ops = graph.producers(), [last]
    if producers.get(last.outputs[0]) is not last:  # it is part of another one already
        return None
    for line, before in zip(reversed(rule.chain), [*reversed(rule.chain[:-1]), None], strict=True):
        if not _bind(line, ops[0], bound):
            return None
        if before is not None:
            value = next((bound[name] for name in before.names if name in line.args), None)
            op = producers.get(value) if isinstance(value, Ref) else _beside(before, ops[0], graph, bound)
            if op is None or op.name != before.function:
                return None
            ops.insert(0, op)
    return tuple(ops), bound


def _beside(line: Line, op: Op, graph: Graph, bound: Bound) -> Op | None:
    """The last operation of the layer before `op` that `line` can stand for: they read the same, not one the other."""
    earlier = graph.ops[: graph.ops.index(op)]
    alike = (o for o in reversed(earlier) if o.name == line.function and layer_of(o.module) == layer_of(op.module))
    return next((o for o in alike if _bind(line, o, dict(bound))), None)


def _bind(line: Line, op: Op, bound: Bound) -> bool:
    """Whether the line's names can stand for the values of `op`; they do so in `bound` then."""
    arguments = (*op.args, *[None] * (len(line.args) - len(op.args)))
    if len(arguments) > len(line.args):
        return False
    pairs = [*zip(line.args, arguments, strict=True), *zip(line.names, map(Ref, op.outputs), strict=True)]
    return all(bound.setdefault(name, value) == value for name, value in pairs)


def _joined(rule: Rule, ops: tuple[Op, ...], bound: Bound) -> Op | None:
    """The operation that takes the place of `ops`; none where their modules do not lie within one another, or in several
    layers, or two of one kind have other attributes."""
    module = max((op.module for op in ops), key=len)
    if not all(lies_in(module, op.module) for op in ops):
        return None
    if len({layer_of(op.module) for op in ops}) > 1:
        return None
    attrs: dict[str, Any] = {}
    for op in ops:
        if any(op.name == other.name and op.attrs != other.attrs for other in ops):
            return None
        attrs |= op.attrs
    sources = tuple(dict.fromkeys(source for op in ops for source in op.sources))
    outputs = tuple(str(bound[name]) for name in rule.results)
    return Op(rule.op, tuple(bound[name] for name in rule.operands), outputs, attrs, module, sources, ops)


def _free(rule: Rule, joined: Op, ops: tuple[Op, ...], bound: Bound, graph: Graph, kept: set[str]) -> bool:
    """Whether nothing else reads what is gone, nothing reads a result before the last operation, and nothing what is overwritten, behind the first; `kept`: what equal layers read too."""
    first, last = (graph.ops.index(op) for op in (ops[0], ops[-1]))
    readers = _readers(graph, ops)
    gone = {str(out) for op in ops for out in op.outputs} - {*joined.outputs}
    changed = {str(bound[name]) for name in rule.overwrites.values()}
    return not (
        any(value in readers for value in gone)
        or any(place < last for value in joined.outputs for place in readers.get(value, ()))
        or any(place > first for value in changed for place in readers.get(value, ()))
        or changed & {*graph.parameters, *graph.constants, *kept}
    )


def _readers(graph: Graph, ops: tuple[Op, ...]) -> dict[str, list[int]]:
    """Places of the operations, without `ops`, that read each value; what the graph gives is read at its end."""
    found: dict[str, list[int]] = {str(value): [len(graph.ops)] for value in graph.outputs}
    for place, op in enumerate(graph.ops):
        for value in op.inputs if op not in ops else ():
            found.setdefault(str(value), []).append(place)
    return found


def _with(graph: Graph, joined: Op) -> Graph:
    def placed() -> Iterator[Op]:
        for op in graph.ops:
            if op is joined.chain[-1]:
                yield joined
            elif all(op is not member for member in joined.chain):
                yield op

    return graph.with_ops(tuple(placed()))
