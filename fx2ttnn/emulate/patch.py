"""Puts the emulator in front of every ttnn operation.

All operations, C++ or Python, in all of ttnn's namespaces are instances of one class, so its `__call__` is the one
place to patch. A few plain functions that take or make tensors are replaced in the module. Tensors on the host stay ttnn's own.
"""

from __future__ import annotations

import importlib
import pkgutil
import threading
from collections.abc import Callable
from typing import Any

from fx2ttnn.check import mock_gaps
from fx2ttnn.emulate import ops
from fx2ttnn.emulate.call import Call, leaves, map_leaves
from fx2ttnn.emulate.ops.transfer import host_numbers, plain_functions, tensor_methods
from fx2ttnn.emulate.registry import EMULATIONS
from fx2ttnn.emulate.sub_devices import SubDevices
from fx2ttnn.emulate.tensor import ChipTensor, EmulatedTensor, EmulationError
from fx2ttnn.emulate.trace import Traces

for _module in pkgutil.iter_modules(ops.__path__):
    importlib.import_module(f"{ops.__name__}.{_module.name}")

_restore: list[Callable[[], None]] = []


class _Inside(threading.local):
    """Of a thread: `depth` is above 0 inside a real operation, whose inner calls are not emulated."""

    depth = 0


_inside = _Inside()


def install() -> None:
    """Turns the emulator on in this process."""
    import ttnn
    from ttnn.decorators import FastOperation

    if _restore:
        raise EmulationError("the emulator is on already")
    if not ttnn.CONFIG.enable_fast_runtime_mode:
        raise EmulationError("the emulator needs ttnn's fast runtime mode: unset TTNN_CONFIG_OVERRIDES")
    sub_devices = SubDevices()
    real_call, traces = FastOperation.__call__, Traces(sub_devices)
    _set(FastOperation, "__call__", lambda op, *args, **kwargs: _call(op, real_call, traces, args, kwargs))
    for name, method in sub_devices.methods(ttnn.MeshDevice, traces.refuse_in_capture).items():
        _set(ttnn.MeshDevice, name, method)
    _set(ttnn, "open_mesh_device", mock_gaps.opening(ttnn.open_mesh_device))
    for name, function in (plain_functions(ttnn) | traces.functions()).items():
        _set(ttnn, name, function)
    for name, method in tensor_methods(ttnn).items():
        _set(ttnn.Tensor, name, method)


def installed() -> bool:
    """Whether the emulator is on."""
    return bool(_restore)


def uninstall() -> None:
    """Turns the emulator off and restores ttnn."""
    while _restore:
        _restore.pop()()


def _set(owner: Any, name: str, value: Any) -> None:
    before = getattr(owner, name)
    _restore.append(lambda: setattr(owner, name, before))
    setattr(owner, name, value)


def _call(op: Any, real_call: Callable[..., Any], traces: Traces, args: tuple, kwargs: dict[str, Any]) -> Any:
    if _inside.depth:
        return real_call(op, *args, **kwargs)
    import ttnn

    name = op.python_fully_qualified_name
    emulation = EMULATIONS.get(name)

    def run_real(*real_args: Any, **real_kwargs: Any) -> Any:
        _inside.depth += 1
        try:
            return real_call(op, *map_leaves(real_args, _real), **map_leaves(real_kwargs, _real))
        finally:
            _inside.depth -= 1

    if emulation is not None and emulation.composed:
        return op.function(*args, **kwargs)
    on_device = _holds(EmulatedTensor, args, kwargs)
    traces.sub_devices.begin(name, args, kwargs)
    if emulation is not None and emulation.host and (on_device or _holds(ttnn.MeshDevice, args, kwargs)):
        traces.refuse_in_capture(name)
    if emulation is not None and emulation.full:
        result = emulation.function(*args, **kwargs, run_real=run_real)
        traces.allocated(result)
        return result
    if _holds(ChipTensor, args, kwargs):
        raise EmulationError(f"{name} on the tensor of one chip has no emulation: call it on the whole tensor")
    if emulation is None and on_device:
        raise EmulationError(f"{name} has no emulation: add one to fx2ttnn/emulate/ops/")
    programs = traces.programs()
    real = run_real(*args, **kwargs)
    traces.refuse_compiling(name, programs)
    if not on_device and not _makes_device_tensor(real):
        return real  # host tensors only: ttnn's own numbers are true
    if emulation is None:
        raise EmulationError(f"{name} has no emulation: add one to fx2ttnn/emulate/ops/")
    call, result = Call.of(name, emulation, real, map_leaves(args, host_numbers), map_leaves(kwargs, host_numbers))
    if traces.capturing:
        traces.record(call, result)
    else:
        call.run()
    traces.allocated(result)
    return result


def _holds(kind: type, *trees: Any) -> bool:
    return next(leaves(trees, kind), None) is not None


def _makes_device_tensor(real: Any) -> bool:
    import ttnn

    return any(t.storage_type() == ttnn.StorageType.DEVICE for t in leaves(real, ttnn.Tensor))


def _real(leaf: Any) -> Any:
    return leaf.real if isinstance(leaf, EmulatedTensor) else leaf
