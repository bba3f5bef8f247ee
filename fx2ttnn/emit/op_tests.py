"""tests/ops: one file for each ttnn operation, one case for each distinct call of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fx2ttnn.emit.configs import Configs
from fx2ttnn.emit.distinct import distinct_calls
from fx2ttnn.ir import Ref
from fx2ttnn.lower.program import Program
from fx2ttnn.lower.values import Call, Lowered, Tensor


def op_test_files(program: Program, configs: Configs, render: Callable[..., str]) -> dict[str, str]:
    """Files of tests/ and tests/ops by name."""
    by_function: dict[str, list[dict[str, Any]]] = {}
    for (lowered, call), group in distinct_calls(program.calls()):
        cases = by_function.setdefault(call.function, [])
        cases.append(_case(call, group, lowered, configs, {c["name"] for c in cases}))
    files = {
        "tests/__init__.py": "",
        "tests/ops/__init__.py": "",
        "pytest.ini": "[pytest]\ntestpaths = tests\n",  # the package is pytest's root, from wherever it is started
        "tests/conftest.py": render("conftest.py.j2"),
        "tests/pcc.py": render("pcc.py.j2"),
        "tests/ops/harness.py": render(
            "op_harness.py.j2", resources=program.has_resources, prefetching=program.plan.target.prefetching
        ),
        "tests/ops/references.py": render("op_references.py.j2"),
    }
    for function, cases in by_function.items():
        name = function.rsplit(".", 1)[-1]
        files[f"tests/ops/test_{name}.py"] = render("op_test.py.j2", function=function, name=name, cases=cases)
    return files


def _case(call: Call, group: list[Call], lowered: Lowered, configs: Configs, taken: set[str]) -> dict[str, Any]:
    name = _name(call, lowered)
    while name in taken:
        name += "'"
    arguments = (*enumerate(call.args), *call.kwargs.items())
    return {
        "name": name,
        "used": sorted({c.op.module for c in group}),
        "rule": call.rule,
        "args": [_argument(a, call, place, lowered, configs) for place, a in enumerate(call.args)],
        "kwargs": [(k, _argument(v, call, k, lowered, configs)) for k, v in call.kwargs.items()],
        "written": tuple(at for at, a in arguments if isinstance(a, Ref) and a in call.writes),
        "returns": bool(call.outputs),
        "pcc": call.pcc,
    }


def _name(call: Call, lowered: Lowered) -> str:
    if call.op.name == "reshard":
        return f"{call.op.module} {call.names[0]}"
    return call.op.module or call.op.name


def _argument(value: Any, call: Call, key: str | int, lowered: Lowered, configs: Configs) -> str:
    if isinstance(value, Ref):
        return _input(lowered.tensors[value], call, lowered, configs)
    if isinstance(value, tuple):
        return f"[{', '.join(_argument(item, call, key, lowered, configs) for item in value)}]"
    return configs.argument(call, key, value)


def _input(tensor: Tensor, call: Call, lowered: Lowered, configs: Configs) -> str:
    if tensor.name in lowered.parameters and lowered.parameters[tensor.name].resource:
        if not tensor.shape:
            return f"Resource({tensor.dtype!r})"
        memory = configs.memory(lowered, tensor.name)
        method = lowered.parameters[tensor.name].transform
        return f"Resource({method!r}, ({tensor.shape}, ttnn.{tensor.dtype}, {memory}))"
    differs = tuple(a != "R" for a in tensor.axes)
    kind, high = _values(tensor, call, lowered)
    extra = "".join(f", {k}={v!r}" for k, v in (("values", kind), ("high", high)) if v)
    memory = configs.memory(lowered, tensor.name)
    return f"Input({tensor.shape}, ttnn.{tensor.dtype}, ttnn.{tensor.layout}_LAYOUT, {memory}, {differs}{extra})"


def _values(tensor: Tensor, call: Call, lowered: Lowered) -> tuple[str | None, int | None]:
    """What to fill an input with: normal numbers, unless the operation gives them a meaning."""
    leaf = tensor.name.rsplit(".", 1)[-1]
    if call.op.module == "sampler":
        return _sampling_values(tensor, leaf, call)
    if call.function in ("ttnn.topk", "ttnn.gather", "ttnn.scatter"):
        return _choice_values(tensor, call, lowered)
    if (kind := _composed_values(tensor, call)) is not None:
        return kind
    if leaf == "chunk_start":
        query, cache, _, table = (lowered.tensors[a].shape for a in call.args[:4])
        return leaf, (table[-1] * cache[2] - query[2]) // query[2] * query[2]
    if leaf.startswith("last_tile_"):
        return leaf, lowered.tensors[call.args[0]].rows
    if call.function.endswith("_post_all_gather") and call.args[1] == tensor.name:
        return ("stats" if call.function == "ttnn.rms_norm_post_all_gather" else "moments"), None
    if leaf in ("page_table", "chunk_page_table", "current_pos", "first_user"):
        pages = [lowered.tensors[a].shape[0] for a in call.args if isinstance(a, Ref) and a.endswith("_cache")]
        return leaf.removeprefix("chunk_"), pages[0] if pages else None
    if call.function in ("ttnn.rms_norm", "ttnn.layer_norm") and call.args[0] == tensor.name:
        return "small_rows", None
    if tensor.dtype in ("uint32", "int32"):
        return "ids", lowered.tensors[call.args[1]].shape[-2]
    return None, None


_MANY = 1 << 15  # ids and positions below it


def _composed_values(tensor: Tensor, call: Call) -> tuple[str, int | None] | None:
    """Where an operation is composed: conditions that some numbers fulfil and others do not, and whole numbers as such."""
    match call.function, call.args:
        case ("ttnn.ge" | "ttnn.lt", (_, float(bound))):
            return "around", max(1, int(bound))
        case "ttnn.logical_and", _:
            return "flags", None
        case "ttnn.where", (condition, *_) if condition == tensor.name:
            return "flags", None
        case "ttnn.where", (_, _, float(other)):
            return ("around", int(abs(other))) if abs(other) < _MANY else None
        case (
            "ttnn.subtract" | "ttnn.reshape" | "ttnn.to_layout" | "ttnn.untilize" | "ttnn.typecast" | "ttnn.concat",
            _,
        ) if tensor.dtype in ("int32", "uint32", "float32"):
            return "ids", _MANY
    return None


def _choice_values(tensor: Tensor, call: Call, lowered: Lowered) -> tuple[str | None, int | None]:
    """Where experts are chosen: no two scores are equal, and no expert is chosen twice."""
    if tensor.dtype in ("uint16", "uint32"):
        return "distinct_columns", lowered.tensors[call.args[0]].width
    return ("distinct_at_the_top" if call.function == "ttnn.topk" else None), None


def _sampling_values(tensor: Tensor, leaf: str, call: Call) -> tuple[str | None, int | None]:
    """Of equal values topk may take any, and chance must not decide what is drawn."""
    if leaf in ("k", "p", "inverse_temperature"):
        return "ones", None
    if tensor.dtype in ("uint16", "uint32"):
        return "ids", 1 << 15
    return ("distinct_at_the_top" if call.function in ("ttnn.topk", "ttnn.sampling") else None), None
