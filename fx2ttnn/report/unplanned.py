"""What graph.json says of calls and their times; and of a graph that was lowered but not planned, such as sampling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from fx2ttnn.cost.calls import DeviceOp
from fx2ttnn.cost.kernels import COMPUTE, DRAM, LINKS
from fx2ttnn.ir import Op, Placement
from fx2ttnn.lower.values import Call, Lowered
from fx2ttnn.profile.predicted import Predicted
from fx2ttnn.report.calls import Calls
from fx2ttnn.report.kinds import kind_of

NOTHING = {"DRAM": 0.0, "compute": 0.0, "links": 0.0}


def times(predicted: Predicted, calls: Sequence[Call]) -> dict[str, Any]:
    """`seconds` predicted of one run of the calls on one chip, and `taken`: by what; the rest is start-up, latency and gaps."""
    priced = [predicted.of_call(call) for call in calls]
    seconds = sum(one.seconds for one in priced)
    taken = dict.fromkeys((DRAM, COMPUTE, LINKS), 0.0)
    for op in (op for one in priced for op in one.device_ops):
        for name in taken:
            taken[name] += op.kernel.parts.get(name, 0.0) / 1e6
    return {"seconds": seconds, "taken": {**taken, "rest": seconds - sum(taken.values())}}


def described(describe: Calls, predicted: Predicted, call: Call) -> dict[str, Any]:
    """A call with its device operations, and by their ids the planned operations that it is the call of."""
    ops = [_device_op(op) for op in predicted.of_call(call).device_ops]
    members = [str(member.outputs[0]) for member in call.op.members]
    return describe.to_json(call) | {"members": members, "device_ops": ops}


def _device_op(op: DeviceOp) -> dict[str, Any]:
    """Microseconds without the gap, the same by what takes them, the formula, whether such an operation was measured; `cache`: see CacheRead."""
    kernel = op.kernel
    return {
        "name": op.name,
        "us": kernel.us,
        "parts": dict(kernel.parts),
        "formula": kernel.formula,
        "measured": kernel.measured,
        "cache": asdict(op.cache) if op.cache else None,
    }


def unplanned_json(predicted: Predicted, lowered: Lowered, describe: Calls) -> dict[str, Any]:
    """One part with a node for each operation that has calls; tensors are those of one chip."""
    groups: dict[str, list[Call]] = {}
    moves: list[Call] = []  # they belong to the operation that comes next, which reads them
    for call in lowered.calls:
        moves.append(call)
        if call.op.name != "reshard":
            groups.setdefault(call.op.outputs[0], []).extend(moves)
            moves = []
    nodes = [_node(calls[-1].op, calls, lowered, describe, predicted) for calls in groups.values()]
    part = {"name": lowered.mode, "layer": None, "count": 1, "seconds": predicted.seconds, "nodes": nodes}
    step = {
        "step_seconds": predicted.seconds,
        "loads": [],
        "unmeasured": dict(predicted.unmeasured),
        "gap_us": predicted.target.costs.gap,
    }
    return {"planned": False, **step, "dram_bytes": {}, "parts": [part]}


def _node(op: Op, calls: list[Call], lowered: Lowered, describe: Calls, predicted: Predicted) -> dict[str, Any]:
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
        **times(predicted, calls),
        "bound": NOTHING,
        "flops": 0,
        "dram_bytes": 0.0,
        "calls": [described(describe, predicted, call) for call in calls],
    }


def _value(value: str, lowered: Lowered) -> dict[str, Any]:
    tensor = lowered.tensors.get(value)
    if tensor is None:
        return {"value": str(value), "shape": []}
    placement = str(Placement(tensor.axes))
    shape = list(tensor.shape)
    return {"value": str(value), "shape": shape, "placement": placement, "local": shape, "lies": placement}
