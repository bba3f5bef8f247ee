"""What a layer is made of, as a value that can be compared: equal fingerprints compute the same function of their weights."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from types import FunctionType
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes

Attribute = tuple[str, str]  # path of a module inside the layer, name of an attribute

# nn.Module keeps these itself; parameters, buffers and children are compared on their own.
_OWN = {"_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"}
_PLAIN = (bool, int, float, str, bytes, complex, torch.dtype, torch.device, type(None))


class Fingerprints:
    """Makes fingerprints; remembers shared objects (such as the config), so that each is walked once."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Any, Hashable]] = {}  # holds the object too: its id must stay taken

    def of(self, layer: torch.nn.Module, leave_out: set[Attribute]) -> Hashable:
        """Module tree, classes, every attribute, parameters' and buffers' names, shapes, dtypes, and buffers' values."""
        return tuple(self._module(path, module, leave_out) for path, module in layer.named_modules())

    def _module(self, path: str, module: torch.nn.Module, leave_out: set[Attribute]) -> Hashable:
        attributes = tuple(
            (name, self._freeze(value))
            for name, value in sorted(vars(module).items())
            if name not in _OWN and (path, name) not in leave_out
        )
        parameters = tuple((name, _spec(p)) for name, p in module._parameters.items())
        volatile = module._non_persistent_buffers_set
        # A persistent buffer is in the checkpoint, so its value here means nothing.
        buffers = tuple(
            (name, _spec(b), self._freeze(b) if name in volatile else None) for name, b in module._buffers.items()
        )
        return path, type(module), attributes, parameters, buffers

    def _freeze(self, value: Any) -> Hashable:
        if isinstance(value, _PLAIN):
            return type(value), repr(value)  # repr: 0.0 and -0.0 differ, nan equals itself
        if isinstance(value, FunctionType | type):
            return value
        if isinstance(value, dict) and not value:  # most of what a module holds: its unused hooks
            return type(value)
        if id(value) not in self._known:
            self._known[id(value)] = value, ("inside", id(value))  # for an object that holds itself
            self._known[id(value)] = value, self._walk(value)
        return self._known[id(value)][1]

    def _walk(self, value: Any) -> Hashable:
        if isinstance(value, torch.Tensor):
            known = value.device.type == "cpu" and type(value) in (torch.Tensor, torch.nn.Buffer)
            return _spec(value), _bytes(value) if known else id(value)
        if isinstance(value, dict):
            return type(value), tuple((self._freeze(k), self._freeze(v)) for k, v in value.items())
        if isinstance(value, list | tuple):
            return type(value), tuple(map(self._freeze, value))
        if isinstance(value, torch.nn.Module) or not hasattr(value, "__dict__"):
            return "object", id(value)
        return type(value), tuple((name, self._freeze(v)) for name, v in sorted(vars(value).items()))


def _bytes(tensor: torch.Tensor) -> bytes:
    """The tensor's values; a fake tensor mode that is active would give what happens to be in memory."""
    with _disable_current_modes():
        return tensor.numpy().tobytes()


def _spec(tensor: torch.Tensor | None) -> Hashable:
    return None if tensor is None else (tuple(tensor.shape), str(tensor.dtype))


def index_attributes(layers: Sequence[torch.nn.Module]) -> list[set[Attribute]]:
    """For each layer its attributes that equal a layer's place in the list, in every layer that has them."""
    ints = [_ints(layer) for layer in layers]
    other = {place for index, held in enumerate(ints) for place, value in held.items() if value != index}
    return [held.keys() - other for held in ints]


def _ints(layer: torch.nn.Module) -> dict[Attribute, int]:
    return {
        (path, name): value
        for path, module in layer.named_modules()
        for name, value in vars(module).items()
        if type(value) is int
    }
