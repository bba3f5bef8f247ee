"""report/graph.json: the planned operations of one step, in parts: what stands before the layers, each distinct layer, the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from fx2ttnn.ir import Op, Placement
from fx2ttnn.lower.program import Program
from fx2ttnn.lower.values import Call, Lowered
from fx2ttnn.names import layer_of
from fx2ttnn.plan import Plan
from fx2ttnn.plan.cost import collective_seconds
from fx2ttnn.plan.device_shape import local_shape
from fx2ttnn.plan.segments import layer_counts
from fx2ttnn.profile.roofline import PLACED, OpBound, rooflines
from fx2ttnn.profile.work import Meter
from fx2ttnn.report.calls import Calls, Emitted
from fx2ttnn.report.kinds import kind_of
from fx2ttnn.report.unplanned import unplanned_json

FORMAT = 1
_TIMES = {
    "all_gather": 1,
    "reduce_scatter": 1,
    "all_reduce": 2,
}  # how often the cost model counts the bytes of a collective


def graph_json(program: Program, provenance: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Every mode of a program; prefill for its longest chunk."""
    plan = program.plan
    return {
        "format": FORMAT,
        "model": plan.capture.model_name,
        "target": plan.target.name,
        "mesh_shape": list(plan.target.mesh_shape),
        "precision": plan.precision.name,
        "modes": _modes(program, Emitted(program, provenance)),
    }


def _modes(program: Program, shared: Emitted) -> dict[str, Any]:
    longest = max(program.lengths)
    found = {
        "decode": _Step(shared, "decode", 1, program.decode).to_json(),
        "prefill": _Step(shared, "prefill", longest, program.lengths[longest]).to_json(),
    }
    if program.sampling is not None:
        calls = Calls(shared, program.sampling.mode, program.sampling)
        found[program.sampling.mode] = unplanned_json(program.sampling, calls)
    return found


class _Step:
    """One mode of the model."""

    def __init__(self, shared: Emitted, mode: str, tokens: int, lowered: Lowered):
        plan = shared.program.plans[mode]
        self._plan, self._lowered, self._tokens = plan, lowered, tokens
        self._describe = Calls(shared, mode, lowered)
        self._calls = _calls_of_ops(plan, lowered)
        self._problems = {op.outputs[0]: why for op, why in lowered.unsupported}
        bounds = rooflines(plan.capture, plan.target, plan.precision, plan)
        placed = next(b for b in bounds if b.split == PLACED and b.bandwidth == "measured")
        self._bounds = {bound.value: bound for bound in placed.ops}
        self._meter = Meter(plan.graph, plan.precision, plan.capture.users, self._local)

    def to_json(self) -> dict[str, Any]:
        plan = self._plan
        return {
            "priced": True,
            "users": plan.capture.users,
            "tokens": self._tokens,
            "max_seq_len": plan.capture.max_seq_len,
            "residual": str(plan.residual),
            "step_seconds": sum(plan.step_seconds().values()),
            "dram_bytes": dict(plan.dram),
            "parts": self._parts(),
        }

    def _parts(self) -> list[dict[str, Any]]:
        counts = layer_counts(self._plan.capture.graph)
        groups = [(layer, list(ops)) for layer, ops in groupby(self._plan.graph.ops, lambda op: layer_of(op.module))]
        found = []
        for index, (layer, ops) in enumerate(groups):
            behind = "behind the layers" if index == len(groups) - 1 else "between the layers"
            around = "before the layers" if index == 0 else behind
            found.append(
                {
                    "name": layer or around,
                    "layer": layer,
                    "count": counts.get(layer or "", 1),
                    "seconds": sum(self._plan.seconds.get(op.outputs[0], 0.0) for op in ops),
                    "nodes": [self._node(op) for op in ops],
                }
            )
        return found

    def _node(self, op: Op) -> dict[str, Any]:
        """`seconds` is predicted, of one run on one chip; `taken` says by what, `bound` what each resource takes at least."""
        plan, graph = self._plan, self._plan.graph
        work, bound = self._meter.work(op), self._bounds[op.outputs[0]]
        inputs = [v for v in dict.fromkeys(op.inputs) if v not in graph.parameters]
        return {
            "id": str(op.outputs[0]),
            "op": op.name,
            "kind": kind_of(op),
            "module": op.module,
            "captured": list(op.sources),
            "problem": self._problems.get(op.outputs[0], ""),
            "inputs": [self._value(v) for v in inputs],
            "outputs": [self._value(v) for v in op.outputs],
            "parameters": [self._value(v) for v in dict.fromkeys(op.inputs) if v in graph.parameters],
            "seconds": plan.seconds.get(op.outputs[0], 0.0),
            "taken": self._taken(op, bound),
            "bound": _resources(bound),
            "flops": work.flops,
            "dram_bytes": work.dram_bytes,
            "calls": [self._describe.to_json(call) for call in self._calls.get(op.outputs[0], ())],
        }

    def _taken(self, op: Op, bound: OpBound) -> dict[str, float]:
        """The predicted time by resource; `rest` is what the cost model adds to bytes and FLOPs (see plan/cost.py)."""
        seconds, target = self._plan.seconds.get(op.outputs[0], 0.0), self._plan.target
        found = dict.fromkeys(("DRAM", "compute", "links"), 0.0)
        if op.name in _TIMES:
            fixed = _TIMES[op.name] * collective_seconds(0.0, target.mesh_shape[op.attrs["axis"]], target)
            found["links"] = max(0.0, seconds - fixed)
        elif bound.bound_by in found:
            found[bound.bound_by] = min(bound.seconds, seconds)
        return {**found, "rest": seconds - sum(found.values())}

    def _value(self, value: str) -> dict[str, Any]:
        """`shape` and `placement` of the whole value as the model has it; `local` and `lies` of one chip's part.

        One chip's part is told in the dims of its device tensor where there is one, else in those of the model.
        """
        plan = self._plan
        placement, tensor = plan.placements.get(value), self._lowered.tensors.get(value)
        found: dict[str, Any] = {"value": str(value), "shape": list(plan.graph.specs[value].shape)}
        if value in plan.graph.parameters:
            found["name"] = plan.graph.parameters[value]
        if placement is None:
            return found
        found["placement"] = str(placement)
        if tensor is None or value in plan.graph.parameters:
            return found | {"local": list(self._local(value)), "lies": str(placement)}
        return found | {"local": list(tensor.shape), "lies": str(Placement(tensor.axes))}

    def _local(self, value: str) -> tuple[int, ...]:
        spec, placement = self._plan.graph.specs[value], self._plan.placements.get(value)
        return local_shape(spec, placement, self._plan.target.mesh_shape) if placement else spec.shape


def _resources(bound: OpBound) -> dict[str, float]:
    return {"DRAM": bound.dram_seconds, "compute": bound.compute_seconds, "links": bound.link_seconds}


def _calls_of_ops(plan: Plan, lowered: Lowered) -> dict[str, list[Call]]:
    """The calls of each op by its first output; a move between memories belongs to the op that comes next, which reads it."""
    found: dict[str, list[Call]] = {}
    moves: list[Call] = []
    for call in lowered.calls:
        if call.op.name == "reshard":
            moves.append(call)
            continue
        found.setdefault(call.op.members[-1].outputs[0], []).extend([*moves, call])
        moves = []
    if moves:  # nothing reads them in a call
        found.setdefault(plan.graph.ops[-1].outputs[0], []).extend(moves)
    return found
