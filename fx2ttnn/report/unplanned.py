"""What graph.json says of a graph that was lowered but not planned, such as sampling: its calls, without predicted times."""

from __future__ import annotations

from typing import Any

from fx2ttnn.ir import Op, Placement
from fx2ttnn.lower.values import Call, Lowered
from fx2ttnn.report.calls import Calls
from fx2ttnn.report.kinds import kind_of

NOTHING = {"DRAM": 0.0, "compute": 0.0, "links": 0.0}


def unplanned_json(lowered: Lowered, describe: Calls) -> dict[str, Any]:
    """One part with a node for each operation that has calls; tensors are those of one chip."""
    groups: dict[str, list[Call]] = {}
    moves: list[Call] = []  # they belong to the operation that comes next, which reads them
    for call in lowered.calls:
        moves.append(call)
        if call.op.name != "reshard":
            groups.setdefault(call.op.outputs[0], []).extend(moves)
            moves = []
    nodes = [_node(calls[-1].op, calls, lowered, describe) for calls in groups.values()]
    part = {"name": lowered.mode, "layer": None, "count": 1, "seconds": 0.0, "nodes": nodes}
    return {"priced": False, "step_seconds": 0.0, "dram_bytes": {}, "parts": [part]}


def _node(op: Op, calls: list[Call], lowered: Lowered, describe: Calls) -> dict[str, Any]:
    return {
        "id": str(op.outputs[0]),
        "op": op.name,
        "kind": kind_of(op),
        "module": op.module,
        "captured": list(op.sources),
        "problem": "",
        "inputs": [_value(v, lowered) for v in dict.fromkeys(op.inputs)],
        "outputs": [_value(v, lowered) for v in op.outputs],
        "parameters": [],
        "seconds": 0.0,
        "taken": {**NOTHING, "rest": 0.0},
        "bound": NOTHING,
        "flops": 0,
        "dram_bytes": 0.0,
        "calls": [describe.to_json(call) for call in calls],
    }


def _value(value: str, lowered: Lowered) -> dict[str, Any]:
    tensor = lowered.tensors.get(value)
    if tensor is None:
        return {"value": str(value), "shape": []}
    placement = str(Placement(tensor.axes))
    shape = list(tensor.shape)
    return {"value": str(value), "shape": shape, "placement": placement, "local": shape, "lies": placement}
