"""Passes: named rewrites of a graph in a stated order, each verified where that is asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fx2ttnn.errors import GraphError
from fx2ttnn.graph.aten import base_name
from fx2ttnn.graph.dead_code import without_dead_code
from fx2ttnn.graph.verify import verify
from fx2ttnn.ir import Graph, Op

Rewrite = Callable[[Graph], Graph]
Watch = Callable[["Pass", Graph, Graph], None]  # a pass, the graph before and after it


@dataclass(frozen=True)
class Pass:
    """`after`: passes whose work this one counts on. `removes`: ops, by base name, or attributes (`rotary.pairs`) that it does away with
    where it can: no later pass makes more of them."""

    name: str
    rewrite: Rewrite
    after: tuple[str, ...] = ()
    removes: tuple[str, ...] = ()


def run(graph: Graph, passes: Sequence[Pass], watch: Watch | None = None) -> Graph:
    """The graph after all passes, without dead code. With `watch`, which sees every pass, each is verified. Raises GraphError."""
    check_order(passes)
    gone: dict[str, str] = {}  # what a pass removes, and which
    for one in passes:
        before, graph = graph, without_dead_code(one.rewrite(graph))
        if watch:
            watch(one, before, graph)
            verify(graph, one.name)
            _check_gone(one, before, graph, gone)
            gone |= dict.fromkeys(one.removes, one.name)
    return graph


def check_order(passes: Sequence[Pass]) -> None:
    """Raises GraphError that names the constraint where a pass stands before one that it is to follow, or without it."""
    done: set[str] = set()
    for one in passes:
        for needed in one.after:
            if needed not in done:
                raise GraphError(f"pass {one.name} counts on {needed}, which must run before it")
        done.add(one.name)


def _check_gone(one: Pass, before: Graph, after: Graph, gone: dict[str, str]) -> None:
    made = forms(after) - forms(before)
    for form in made.keys() & gone.keys():
        raise GraphError(f"pass {one.name} makes {form}, which {gone[form]} has removed before it")


def forms(graph: Graph) -> Counter[str]:
    """How many ops the graph has of each base name, and of each with an attribute, as `rotary.pairs`."""
    found: Counter[str] = Counter()
    for op in graph.ops:
        found[base_name(op)] += 1
        found.update(f"{base_name(op)}.{name}" for name in op.attrs)
    return found


def changes(before: Graph, after: Graph) -> list[str]:
    """What a pass did, a line for each op that went and each that came."""
    old, new = ({_key(op): op for op in graph.ops} for graph in (before, after))
    lines = [f"- {op}" for key, op in old.items() if key not in new]
    return lines + [f"+ {op}" for key, op in new.items() if key not in old]


def _key(op: Op) -> str:
    return f"{op} {op.outputs}"
