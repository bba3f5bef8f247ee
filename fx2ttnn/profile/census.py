"""Every distinct op of the model with its shapes: how often it runs in a step, and what it computes and moves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from fx2ttnn.ir import Graph, Op, Ref
from fx2ttnn.names import layer_of
from fx2ttnn.plan.segments import layer_counts
from fx2ttnn.precision import Precision
from fx2ttnn.profile.work import Meter, Work

# Attributes that say which layer or table an op belongs to, not what it computes.
_IDENTITY = {"layer", "stem", "table", "index", "like", "takes", "gives"}


@dataclass(frozen=True)
class Row:
    """One distinct op. `count`: runs in one step of the whole model; `work`: of one run.

    `modules` and `values` (first outputs) are those of the spelled-out layers; a folded layer's are its representative's.
    """

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: tuple[str, ...]
    count: int
    work: Work
    modules: tuple[str, ...]
    values: tuple[str, ...]

    @property
    def flops(self) -> int:
        """FLOPs of all runs."""
        return self.count * self.work.flops

    def to_json(self) -> dict[str, Any]:
        return {
            "op": self.op,
            "inputs": list(self.inputs),
            "outputs": list(self.outputs),
            "attributes": list(self.attributes),
            "count": self.count,
            "flops": self.work.flops,
            "parameter_bytes": self.work.parameter_bytes,
            "activation_bytes": self.work.activation_bytes,
            "cache_bytes": self.work.cache_bytes,
            "flops_per_byte": self.work.intensity,
            "modules": list(self.modules),
        }


def census(graph: Graph, precision: Precision, users: int = 0) -> tuple[Row, ...]:
    """Rows of a recognised graph in order of first appearance; `graph` may hold folded layers.

    `users` of the graph's batch rows are in use, all of them by default.
    """
    meter = Meter(graph, precision, users)
    counts = layer_counts(graph)
    rows: dict[tuple, Row] = {}
    for op in graph.ops:
        if op.name == "layer":
            continue
        new = _row(op, graph, meter, runs(op, counts))
        key = (new.op, new.inputs, new.outputs, new.attributes, new.work)
        rows[key] = _merged(rows[key], new) if key in rows else new
    return tuple(rows.values())


def runs(op: Op, counts: dict[str, int]) -> int:
    """How often `op` runs in one step, where each spelled-out layer stands for `counts` layers."""
    return counts.get(layer_of(op.module) or "", 1)


def _row(op: Op, graph: Graph, meter: Meter, count: int) -> Row:
    inputs = tuple(str(graph.specs[value]) for value in op.inputs)
    outputs = tuple(str(graph.specs[value]) for value in op.outputs)
    return Row(op.name, inputs, outputs, attributes(op), count, meter.work(op), (op.module,), (op.outputs[0],))


def _merged(row: Row, other: Row) -> Row:
    modules = tuple(dict.fromkeys((*row.modules, *other.modules)))
    return replace(row, count=row.count + other.count, modules=modules, values=(*row.values, *other.values))


def attributes(op: Op) -> tuple[str, ...]:
    """What an op was told besides its values: named attributes and constant arguments."""
    named = [f"{name}={value!r}" for name, value in sorted(op.attrs.items()) if name not in _IDENTITY]
    plain = [repr(arg) for arg in op.args if not isinstance(arg, Ref) and not _holds_values(arg)]
    return (*plain, *named)


def _holds_values(arg: Any) -> bool:
    return isinstance(arg, tuple) and any(isinstance(item, Ref) for item in arg)
