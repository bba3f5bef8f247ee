"""Puts the emulator in front of every ttnn operation.

All operations, C++ or Python, in all of ttnn's namespaces are instances of one class, so its `__call__` is the one
place to patch. A few plain functions that take or make tensors are replaced in the module.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any

import torch

from fx2ttnn.emulate import ops
from fx2ttnn.emulate.ops.transfer import plain_functions
from fx2ttnn.emulate.registry import EMULATIONS, NO_EFFECT, Emulation
from fx2ttnn.emulate.rounding import round_to
from fx2ttnn.emulate.tensor import EmulatedTensor, EmulationError

for _module in pkgutil.iter_modules(ops.__path__):
    importlib.import_module(f"{ops.__name__}.{_module.name}")

_OUTPUTS = (
    "output_tensor",
    "optional_output_tensor",
    "preallocated_output",
    "optional_tensor",
    "out",
    "output_tensors",
)
_restore: list[Callable[[], None]] = []
_depth = 0  # above 0: inside a real operation, whose inner calls are not emulated


def install() -> None:
    """Turns the emulator on in this process."""
    import ttnn
    from ttnn.decorators import FastOperation

    if _restore:
        raise EmulationError("the emulator is on already")
    if not ttnn.CONFIG.enable_fast_runtime_mode:
        raise EmulationError("the emulator needs ttnn's fast runtime mode: unset TTNN_CONFIG_OVERRIDES")
    real_call = FastOperation.__call__
    _set(FastOperation, "__call__", lambda op, *args, **kwargs: _call(op, real_call, args, kwargs))
    for name, function in plain_functions(ttnn).items():
        _set(ttnn, name, function)


def uninstall() -> None:
    """Turns the emulator off and restores ttnn."""
    while _restore:
        _restore.pop()()


def _set(owner: Any, name: str, value: Any) -> None:
    before = getattr(owner, name)
    _restore.append(lambda: setattr(owner, name, before))
    setattr(owner, name, value)


def _call(op: Any, real_call: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> Any:
    global _depth
    if _depth:
        return real_call(op, *args, **kwargs)
    name = op.python_fully_qualified_name
    emulation = EMULATIONS.get(name)

    def run_real(*real_args: Any, **real_kwargs: Any) -> Any:
        global _depth
        _depth += 1
        try:
            return real_call(op, *_map(real_args, _real), **_map(real_kwargs, _real))
        finally:
            _depth -= 1

    if emulation is None:
        raise EmulationError(f"{name} has no emulation: add one to fx2ttnn/emulate/ops/")
    if emulation.composed:
        return op.function(*args, **kwargs)
    if emulation.full:
        return emulation.function(*args, **kwargs, run_real=run_real)
    real = run_real(*args, **kwargs)
    return _emulate(name, emulation, real, args, kwargs)


def _emulate(name: str, emulation: Emulation, real: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    known = _known_arguments(name, emulation, kwargs)
    if "real" in emulation.parameters:
        known["real"] = real
    convert = {True: lambda x: x, False: _stored if emulation.moves else _float32}[emulation.raw]
    try:
        result = emulation.function(*_map(args, convert), **_map(known, convert))
    except EmulationError:
        raise
    except Exception as error:
        raise EmulationError(f"the emulation of {name} failed: {type(error).__name__}: {error}") from error
    if result is None and real is None:
        return None
    sources = list(_tensors((args, kwargs)))
    if emulation.inplace is not None:
        target = kwargs[emulation.inplace] if emulation.inplace in kwargs else args[0]
        return _overwrite(name, target, _checked(name, real, result, sources, emulation).value)
    if isinstance(real, (list, tuple)):
        if len(real) != len(result):
            raise EmulationError(f"{name}: ttnn returns {len(real)} tensors, the emulation {len(result)}")
        several = type(real)(_checked(name, r, v, sources, emulation) for r, v in zip(real, result, strict=True))
        targets = next((kwargs[k] for k in _OUTPUTS if kwargs.get(k) is not None), None)
        return (
            several
            if targets is None
            else type(real)(_overwrite(name, t, o.value) for t, o in zip(targets, several, strict=True))
        )
    out = _checked(name, real, result, sources, emulation)
    target = next((kwargs[k] for k in _OUTPUTS if kwargs.get(k) is not None), None)
    return out if target is None else _overwrite(name, target, out.value)


def _known_arguments(name: str, emulation: Emulation, kwargs: dict[str, Any]) -> dict[str, Any]:
    """The keyword arguments that the emulation takes; an error for any other that changes numbers."""
    known = {}
    for key, value in kwargs.items():
        if key in emulation.parameters or emulation.open_ended:
            known[key] = value
        elif key not in NO_EFFECT and key not in _OUTPUTS and not (value is None or value is False or value == []):
            raise EmulationError(f"the argument {key} of {name} has no emulation: add it in fx2ttnn/emulate/ops/")
    return known


def _checked(name: str, real: Any, value: Any, sources: list[EmulatedTensor], emulation: Emulation) -> EmulatedTensor:
    """`value` rounded to the data type of `real`, as a tensor; an error when their shapes differ."""
    if isinstance(value, EmulatedTensor):  # an update in place
        return value
    if tuple(value.shape[2:]) != tuple(real.shape):
        raise EmulationError(
            f"{name}: ttnn says each chip's result has the shape {tuple(real.shape)}, the emulation "
            f"{tuple(value.shape[2:])}"
        )
    dtype = real.dtype.name
    if not (emulation.moves and all(s.real.dtype.name == dtype for s in sources[:1])):
        value = round_to(value, dtype)
    owned = True
    for source in sources:
        if _same_memory(source, value):
            # Two buffers on the chip, one in the emulator: the next change in place copies. A view stays a view.
            owned = source.owned = source.owned and _same_buffer(source.real, real)
    return EmulatedTensor(real, value, owned)


def _overwrite(name: str, target: EmulatedTensor, value: torch.Tensor) -> EmulatedTensor:
    if target.value.shape[2:] != value.shape[2:]:
        raise EmulationError(f"{name}: writes {tuple(value.shape[2:])} into a tensor of {tuple(target.shape)}")
    target.overwrite(round_to(value, target.real.dtype.name))
    return target


def _same_memory(source: EmulatedTensor, value: torch.Tensor) -> bool:
    held = source._value
    return held is not None and held.untyped_storage().data_ptr() == value.untyped_storage().data_ptr()


def _same_buffer(a: Any, b: Any) -> bool:
    try:
        return a.buffer_address() == b.buffer_address() and a.memory_config() == b.memory_config()
    except (RuntimeError, TypeError):  # host tensors have no address
        return False


def _map(tree: Any, change: Callable[[EmulatedTensor], Any]) -> Any:
    if isinstance(tree, EmulatedTensor):
        return change(tree)
    if type(tree) in (list, tuple):
        return type(tree)(_map(x, change) for x in tree)
    if type(tree) is dict:
        return {k: _map(v, change) for k, v in tree.items()}
    return tree


def _tensors(tree: Any) -> Iterator[EmulatedTensor]:
    if isinstance(tree, EmulatedTensor):
        yield tree
    elif type(tree) in (list, tuple):
        for item in tree:
            yield from _tensors(item)
    elif type(tree) is dict:
        yield from _tensors(list(tree.values()))


def _real(tensor: EmulatedTensor) -> Any:
    return tensor.real


def _stored(tensor: EmulatedTensor) -> torch.Tensor:
    return tensor.value


def _float32(tensor: EmulatedTensor) -> torch.Tensor:
    value = tensor.value
    return value.float() if value.is_floating_point() else value
