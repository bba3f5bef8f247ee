"""An operation that no row takes, computed on the host: only where the user allows it.

The emitted line gathers the operands from the mesh, calls the captured ATen operation with torch, and puts the result back
where the plan wants it. Nothing of it comes from a model's texts: the operation must be one of torch's, its arguments plain.
"""

from __future__ import annotations

from typing import Any

import torch

from fx2ttnn.ir import PARTIAL, Op, Ref
from fx2ttnn.lower.values import Call, Enum, Memory, Tensor
from fx2ttnn.plan import Plan

FUNCTION = "host.compute"
RULE = "on the host"


def host_call(op: Op, operands: dict[str, Tensor], result: Tensor, plan: Plan, why: str) -> Call:
    """The call that computes `op` on the host; ValueError with the reason where that is not possible.

    `operands`: the tensors that hold the op's values.
    """
    function = _torch_function(op)
    if len(op.outputs) != 1:
        raise ValueError("it has several results")
    for value in (*op.inputs, *op.outputs):
        _check_value(value, operands, plan)
    kinds = {argument.name: str(argument.type) for argument in function._schema.arguments}
    args = [
        Ref(operands[arg].name) if isinstance(arg, Ref) else _plain(arg, kind)
        for arg, kind in zip(op.args, kinds.values(), strict=False)
    ]
    named = {name: _plain(value, kinds[name]) for name, value in op.attrs.items()}
    places = [
        (place, plan.orders[arg], operands[arg].mesh_dims) for place, arg in enumerate(op.args) if isinstance(arg, Ref)
    ]
    if not places:
        raise ValueError("it reads no value of the mesh")
    kwargs = named | {
        "operands": tuple(places),
        "result": (plan.orders[op.outputs[0]], result.mesh_dims),
        "dtype": Enum(f"ttnn.{result.dtype}"),
        "memory_config": Memory("DRAM"),
    }
    name = op.name.split(".")[1]
    return Call(
        FUNCTION, (Enum(f"torch.ops.{op.name}"), *args), kwargs, (result.name,), (name,), op, RULE, why, pcc=0.999
    )


def on_host(calls: tuple[Call, ...]) -> list[Call]:
    """Those of `calls` that run on the host."""
    return [call for call in calls if call.function == FUNCTION]


def _torch_function(op: Op) -> Any:
    """Torch's own function of that name."""
    parts = op.name.split(".")
    if len(parts) != 3 or parts[0] != "aten" or not all(part.isidentifier() for part in parts):
        raise ValueError("it is no operation of torch")
    function = getattr(getattr(torch.ops.aten, parts[1], None), parts[2], None)
    if function is None:
        raise ValueError("it is no operation of torch")
    return function


def _check_value(value: str, operands: dict[str, Tensor], plan: Plan) -> None:
    """ValueError unless the host can gather `value` from the mesh, or put it there."""
    spec, placement = plan.graph.specs[value], plan.placements.get(value)
    if value in plan.graph.parameters or value in plan.graph.constants or placement is None:
        raise ValueError(f"{value} is a weight or a constant")
    if not spec.dtype.startswith(("float", "bfloat")):
        raise ValueError(f"{value} holds {spec.dtype}")
    if not 2 <= len(spec.shape) <= 4 or PARTIAL in placement.axes or plan.fill(value):
        raise ValueError(f"{value} does not lie on the mesh in equal parts")
    if value not in operands and not any(value in op.outputs for op in plan.graph.ops):
        raise ValueError(f"{value} is on no chip")


def _plain(value: Any, kind: str) -> Any:
    """A constant argument as source can hold it: a number, a list of them, or a type of torch."""
    if isinstance(value, Ref):
        raise ValueError("it takes a list of tensors")
    if isinstance(value, tuple):
        return tuple(_plain(item, kind) for item in value)
    if isinstance(value, str):
        if "ScalarType" not in kind and "dtype" not in kind and kind not in ("Optional[int]", "int"):
            raise ValueError(f"it takes the text {value!r}")
        if not isinstance(getattr(torch, value, None), torch.dtype):
            raise ValueError(f"it takes the text {value!r}")
        return Enum(f"torch.{value}")
    return value
