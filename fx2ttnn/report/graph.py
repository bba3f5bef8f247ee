"""report/graph.json: the planned operations of one step, in parts: what stands before the layers, each distinct layer, the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from math import prod
from typing import Any

from fx2ttnn.ir import Op, Placement
from fx2ttnn.lower.program import SHORT, Program
from fx2ttnn.lower.values import Call, Lowered
from fx2ttnn.names import layer_of
from fx2ttnn.ops.table import MATMUL
from fx2ttnn.plan import Plan
from fx2ttnn.plan.device_shape import local_shape
from fx2ttnn.plan.segments import layer_counts, layer_order
from fx2ttnn.precision import BYTES
from fx2ttnn.profile.predicted import Load, loads, predicted
from fx2ttnn.profile.roofline import PLACED, OpBound, rooflines
from fx2ttnn.profile.work import Meter
from fx2ttnn.report.calls import Calls, Emitted
from fx2ttnn.report.kinds import kind_of
from fx2ttnn.report.unplanned import described, times, unplanned_json

FORMAT = 2


def graph_json(program: Program, provenance: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Every mode of a program; prefill for its longest chunk."""
    plan, shared = program.plan, Emitted(program, provenance)
    short = program.by_mode.get(SHORT, {})  # with other calls than the longest chunk: for `explain`
    return {
        "format": FORMAT,
        "model": plan.capture.model_name,
        "target": plan.target.name,
        "mesh_shape": list(plan.target.mesh_shape),
        "precision": plan.precision.name,
        "modes": _modes(program, shared),
        "short_modes": {SHORT: _Step(shared, SHORT, max(short), short[max(short)]).to_json()} if short else {},
    }


def _modes(program: Program, shared: Emitted) -> dict[str, Any]:
    longest = max(program.lengths)
    found = {
        "decode": _Step(shared, "decode", 1, program.decode).to_json(),
        "prefill": _Step(shared, "prefill", longest, program.lengths[longest]).to_json(),
    }
    if program.sampling is not None:
        calls = Calls(shared, program.sampling.mode, program.sampling)
        found[program.sampling.mode] = unplanned_json(
            predicted(program.plan, program.sampling), program.sampling, calls
        )
    return found


class _Step:
    """One mode of the model."""

    def __init__(self, shared: Emitted, mode: str, tokens: int, lowered: Lowered):
        plan = shared.program.plans[mode]
        self._plan, self._lowered, self._tokens = plan, lowered, tokens
        self._describe = Calls(shared, mode, lowered)
        self._predicted = predicted(plan, lowered)
        self._calls = _calls_of_ops(plan, lowered)
        self._problems = {op.outputs[0]: why for op, why in lowered.unsupported}
        bounds = rooflines(plan.capture, plan.target, plan.precision, plan)
        placed = next(b for b in bounds if b.split == PLACED and b.bandwidth == "measured")
        self._bounds = {bound.value: bound for bound in placed.ops}
        self._meter = Meter(plan.graph, plan.precision, plan.capture.users, self._local)

    def to_json(self) -> dict[str, Any]:
        plan = self._plan
        return {
            "planned": True,
            "users": plan.capture.users,
            "tokens": self._tokens,
            "max_seq_len": plan.capture.max_seq_len,
            "residual": str(plan.residual),
            "step_seconds": self._predicted.seconds,
            "loads": self._loads(),
            "unmeasured": dict(self._predicted.unmeasured),
            "gap_us": plan.target.costs.gap,
            "plans": [plan.to_json() for plan in plan.alternatives],
            "dram_bytes": dict(plan.dram),
            "order": layer_order(plan.capture.graph),
            "parts": self._parts(),
        }

    def _loads(self) -> list[dict[str, Any]]:
        """The step with fewer users and shorter texts; a chunk as the first of a prompt and behind as many tokens as the cache takes."""
        plan, tokens = self._plan, self._tokens
        found = loads(plan) if tokens == 1 else [Load(1, n) for n in dict.fromkeys((tokens, plan.capture.max_seq_len))]
        return [
            {"users": load.users, "context": load.context, "step_seconds": predicted(plan, self._lowered, load).seconds}
            for load in found
        ]

    def _parts(self) -> list[dict[str, Any]]:
        counts = layer_counts(self._plan.capture.graph)
        groups = [(layer, list(ops)) for layer, ops in groupby(self._plan.graph.ops, lambda op: layer_of(op.module))]
        found = []
        for index, (layer, ops) in enumerate(groups):
            behind = "behind the layers" if index == len(groups) - 1 else "between the layers"
            around = "before the layers" if index == 0 else behind
            nodes = [self._node(op) for op in ops]
            found.append(
                {
                    "name": layer or around,
                    "layer": layer,
                    "count": counts.get(layer or "", 1),
                    "seconds": sum(node["seconds"] for node in nodes),
                    "weights": self._weights(ops),
                    "nodes": nodes,
                }
            )
        return found

    def _weights(self, ops: Sequence[Op]) -> dict[str, float]:
        """Bytes of the weights that matmuls of these operations read on a chip: their own, and padded as they lie over the DRAM banks."""
        calls = [c for op in ops if kind_of(op) == MATMUL for c in self._calls.get(op.outputs[0], ())]
        read = [self._lowered.tensors[ref] for c in calls for ref in c.inputs if ref in self._lowered.parameters]
        read = [tensor for tensor in read if tensor.dtype in BYTES]  # no semaphores and buffers
        return {
            "bytes": sum(prod(tensor.shape) * BYTES[tensor.dtype] for tensor in read),
            "padded_bytes": sum(tensor.stored_elements * BYTES[tensor.dtype] for tensor in read),
        }

    def _node(self, op: Op) -> dict[str, Any]:
        """`seconds` is predicted, of one run on one chip; `taken` says by what, `bound` what each resource takes at least."""
        graph = self._plan.graph
        work, bound = self._meter.work(op), self._bounds[op.outputs[0]]
        inputs = [v for v in dict.fromkeys(op.inputs) if v not in graph.parameters]
        calls = self._calls.get(op.outputs[0], ())
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
            **times(self._predicted, calls),
            "bound": _resources(bound),
            "flops": work.flops,
            "dram_bytes": work.dram_bytes,
            "calls": [described(self._describe, self._predicted, call) for call in calls],
        }

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
